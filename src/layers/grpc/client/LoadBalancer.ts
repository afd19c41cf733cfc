/**
 * Round robin over all addresses of a target that suspends unresponsive replicas. The connection of a hanging process stays open: TCP does
 * not detect it, keepalive does so only after a while, and until then, calls routed to it time out.
 *
 * A replica is suspended if a call to it times out and it has answered no other call since that one began. One call probes it each time the
 * suspension expires, and an answer ends the suspension. If all replicas are suspended, the suspension is ignored.
 */
import { connectivityState, experimental, status } from "@grpc/grpc-js"

import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"

const guard = CallbackGuard.make()

const name = "layers_round_robin_suspending"

/** The `loadBalancingConfig` for a service config. `suspension` is in milliseconds. */
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

/** The state of a replica. Times are in milliseconds of `performance.now()`. */
interface Replica {
  /** When a call to it last ended, except by a timeout or because its caller cancelled it. */
  answeredAt: number
  isSuspended: boolean
  /** When the next call may probe it, if it is suspended. */
  probeAt: number
}

/** The replicas of a target. */
class Replicas {
  readonly #byAddress = new Map<string, Replica>()
  /** The number of endpoints of the target. */
  size = 1
  suspension = 0

  /** The replica that was picked; undefined if none was. */
  of({ subchannel }: experimental.PickResult): Replica | undefined {
    if (subchannel === null) return undefined
    const address = subchannel.getAddress()
    let replica = this.#byAddress.get(address)
    if (replica === undefined) {
      replica = { answeredAt: 0, isSuspended: false, probeAt: 0 }
      this.#byAddress.set(address, replica)
    }
    return replica
  }

  /** Forgets replicas that are not among the endpoints. */
  keepOnly(endpoints: ReadonlyArray<experimental.Endpoint>): void {
    this.size = endpoints.length
    const known = new Set(endpoints.flatMap(({ addresses }) => addresses.map(experimental.subchannelAddressToString)))
    for (const address of this.#byAddress.keys()) if (!known.has(address)) this.#byAddress.delete(address)
  }
}

class Balancer implements experimental.LoadBalancer {
  readonly #child: experimental.ChildLoadBalancerHandler
  readonly #replicas = new Replicas()
  /** Called by grpc-js for each call. */
  readonly exitIdle: () => void

  constructor(helper: experimental.ChannelControlHelper) {
    this.#child = new experimental.ChildLoadBalancerHandler(
      experimental.createChildChannelControlHelper(helper, {
        updateState: (state, picker, message) =>
          helper.updateState(
            state,
            state === connectivityState.READY ? new SuspendingPicker(picker, this.#replicas) : picker,
            message
          )
      })
    )
    this.exitIdle = this.#child.exitIdle.bind(this.#child)
  }

  updateAddressList(
    endpoints: Parameters<experimental.LoadBalancer["updateAddressList"]>[0],
    lbConfig: experimental.TypedLoadBalancingConfig,
    options: Parameters<experimental.LoadBalancer["updateAddressList"]>[2],
    note: string
  ): boolean {
    if (!(lbConfig instanceof Config)) return false
    this.#replicas.suspension = lbConfig.suspension
    if (endpoints.ok) this.#keepOnly(endpoints.value)
    const roundRobin = experimental.parseLoadBalancingConfig({ round_robin: {} })
    return this.#child.updateAddressList(endpoints, roundRobin, options, note)
  }

  #keepOnly = guard("addresses of a gRPC channel", (endpoints: ReadonlyArray<experimental.Endpoint>) =>
    this.#replicas.keepOnly(endpoints)
  )

  resetBackoff = () => this.#child.resetBackoff()
  destroy = () => this.#child.destroy()
  getTypeName = () => name
}

class SuspendingPicker implements experimental.Picker {
  readonly #picker: experimental.Picker
  readonly #replicas: Replicas

  constructor(picker: experimental.Picker, replicas: Replicas) {
    this.#picker = picker
    this.#replicas = replicas
  }

  /** Called by grpc-js for each call, and when a connection changes; an exception would end the process then. */
  pick(args: experimental.PickArgs): experimental.PickResult {
    const startedAt = performance.now()
    let picked = this.#picker.pick(args)
    let replica = this.#replicas.of(picked)
    // after one round, all replicas are suspended
    for (let turn = this.#replicas.size; turn > 0 && replica?.isSuspended === true; turn--) {
      if (startedAt >= replica.probeAt) {
        // the next probe does not wait until this one ends, which may take long
        replica.probeAt = startedAt + this.#replicas.suspension
        break
      }
      picked = this.#picker.pick(args)
      replica = this.#replicas.of(picked)
    }
    if (replica === undefined) return picked
    const { onCallEnded } = picked
    const called = replica
    return {
      ...picked,
      onCallEnded: (code, details, metadata) => {
        try {
          onCallEnded?.(code, details, metadata)
        } catch (exception) {
          guard.onException("end of a call of a gRPC replica", exception)
        }
        if (code === status.DEADLINE_EXCEEDED) {
          if (called.answeredAt < startedAt) {
            called.isSuspended = true
            called.probeAt = performance.now() + this.#replicas.suspension
          }
        } else if (code !== status.CANCELLED) {
          // A cancelled call is inconclusive. A lost connection ends the suspension, since round robin itself skips replicas without a
          // connection.
          called.answeredAt = performance.now()
          called.isSuspended = false
        }
      }
    } as experimental.PickResult
  }
}

let isRegistered = false

const register = () => {
  if (isRegistered) return
  isRegistered = true
  experimental.registerLoadBalancerType(name, Balancer, Config)
}
