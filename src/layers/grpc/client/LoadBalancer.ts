/**
 * Round robin over all addresses of a target, which passes over one that hangs. A replica that has stopped still holds its
 * connection: TCP does not notice, keepalive does only after a while, and a third of all calls would run into their time-out
 * until then, some of them at each of their attempts.
 *
 * What gives a replica away is a call that ran out of time there although no other call has been answered by it since that call
 * began. It is then passed over for a while; after that, one call is let through to see, and another one after each such while,
 * and the others follow when one is answered. If all are passed over, none is: a guess is better than no answer.
 */
import { connectivityState, experimental, status } from "@grpc/grpc-js"

import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"

const guard = CallbackGuard.make()

const name = "onlinebooks_round_robin_passing_over"

/** The `loadBalancingConfig` of a service config that picks replicas so. `suspension` is in milliseconds. */
export const config = (suspension: number): object => {
  register()
  return { [name]: { suspension } }
}

class Config implements experimental.TypedLoadBalancingConfig {
  readonly suspension: number

  constructor(suspension: number) {
    this.suspension = suspension
  }

  static createFromJson({ suspension }: { readonly suspension: number }): Config {
    return new Config(suspension)
  }

  getLoadBalancerName = () => name
  toJsonObject = () => config(this.suspension)
}

/** What is known of a replica. Times are monotonic, in milliseconds. */
interface Replica {
  /** When a call to it last ended, other than by running out of time or because its caller had gone. */
  answeredAt: number
  isSuspected: boolean
  /** When the next call is let through to see, if it is suspected. */
  probedAt: number
}

/** What a pick needs of the balancer. */
interface Memory {
  readonly replica: (address: string) => Replica
  readonly size: () => number
  readonly suspension: () => number
}

class Balancer implements experimental.LoadBalancer {
  readonly #child: experimental.ChildLoadBalancerHandler
  readonly #replicas = new Map<string, Replica>()
  #size = 1
  #suspension = 0

  constructor(helper: experimental.ChannelControlHelper) {
    const memory: Memory = {
      replica: (address) => this.#replica(address),
      size: () => this.#size,
      suspension: () => this.#suspension
    }
    this.#child = new experimental.ChildLoadBalancerHandler(
      experimental.createChildChannelControlHelper(helper, {
        updateState: (state, picker, message) =>
          helper.updateState(
            state,
            state === connectivityState.READY ? new PassingOver(picker, memory) : picker,
            message
          )
      })
    )
  }

  #replica(address: string): Replica {
    let replica = this.#replicas.get(address)
    if (replica === undefined) {
      replica = { answeredAt: 0, isSuspected: false, probedAt: 0 }
      this.#replicas.set(address, replica)
    }
    return replica
  }

  updateAddressList(
    endpoints: Parameters<experimental.LoadBalancer["updateAddressList"]>[0],
    lbConfig: experimental.TypedLoadBalancingConfig,
    options: Parameters<experimental.LoadBalancer["updateAddressList"]>[2],
    note: string
  ): boolean {
    if (!(lbConfig instanceof Config)) return false
    this.#suspension = lbConfig.suspension
    if (endpoints.ok) this.#keepOnly(endpoints.value)
    const roundRobin = experimental.parseLoadBalancingConfig({ round_robin: {} })
    return this.#child.updateAddressList(endpoints, roundRobin, options, note)
  }

  /** Forgets replicas that are not among the endpoints. */
  #keepOnly = guard("addresses of a gRPC channel", (endpoints: ReadonlyArray<experimental.Endpoint>) => {
    this.#size = endpoints.length
    const known = new Set(endpoints.flatMap(({ addresses }) => addresses.map(experimental.subchannelAddressToString)))
    for (const address of this.#replicas.keys()) if (!known.has(address)) this.#replicas.delete(address)
  })

  exitIdle = () => this.#child.exitIdle()
  resetBackoff = () => this.#child.resetBackoff()
  destroy = () => this.#child.destroy()
  getTypeName = () => name
}

class PassingOver implements experimental.Picker {
  readonly #picker: experimental.Picker
  readonly #memory: Memory

  constructor(picker: experimental.Picker, memory: Memory) {
    this.#picker = picker
    this.#memory = memory
  }

  pick(args: experimental.PickArgs): experimental.PickResult {
    let picked: experimental.PickResult | undefined
    // grpc-js picks when a connection changes, too, where an exception would end the process
    guard("pick of a gRPC replica", () => {
      picked = this.#pick(args)
    })()
    return picked ?? this.#picker.pick(args)
  }

  #pick(args: experimental.PickArgs): experimental.PickResult {
    let picked = this.#picker.pick(args)
    // once around: after that all have been passed over
    for (let turn = this.#memory.size(); turn > 0; turn--) {
      if (picked.subchannel === null) return picked
      const replica = this.#memory.replica(picked.subchannel.getAddress())
      if (!replica.isSuspected) return this.#watch(picked, replica)
      const now = performance.now()
      if (now >= replica.probedAt) {
        // a call that goes on for long, or that is never told to have ended, is not the only one to find out
        replica.probedAt = now + this.#memory.suspension()
        return this.#watch(picked, replica)
      }
      picked = this.#picker.pick(args)
    }
    return picked.subchannel === null
      ? picked
      : this.#watch(picked, this.#memory.replica(picked.subchannel.getAddress()))
  }

  #watch(picked: experimental.PickResult, replica: Replica): experimental.PickResult {
    const { onCallEnded } = picked
    const startedAt = performance.now()
    return {
      ...picked,
      onCallEnded: guard("end of a call of a gRPC replica", (code, details, metadata) => {
        onCallEnded?.(code, details, metadata)
        if (code === status.DEADLINE_EXCEEDED) {
          if (replica.answeredAt < startedAt) {
            replica.isSuspected = true
            replica.probedAt = performance.now() + this.#memory.suspension()
          }
        } else if (code !== status.CANCELLED) {
          // A caller who has gone says nothing of the replica. One whose connection is lost is not suspected any more: round
          // robin passes over those that have none by itself.
          replica.answeredAt = performance.now()
          replica.isSuspected = false
        }
      })
    } as experimental.PickResult
  }
}

let isRegistered = false

const register = () => {
  if (isRegistered) return
  isRegistered = true
  experimental.registerLoadBalancerType(name, Balancer, Config)
}
