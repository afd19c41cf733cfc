/**
 * The grpc-js client of a channel. It is replaced by a new one when the certificates change, and when it does not connect within a timeout,
 * which grpc-js does not have (grpc/grpc-node#2785).
 */
import { type ChannelCredentials, type ChannelOptions, Client, connectivityState } from "@grpc/grpc-js"
import { Cause, Effect, type Scope, Stream } from "effect"

import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import * as Status from "../Status.ts"

export interface Options {
  readonly target: string
  /** Called for each new client, so that it gets the current certificates. */
  readonly credentials: () => ChannelCredentials
  readonly channelOptions: ChannelOptions
  /** Maximum time that the channel may be connecting, in milliseconds. */
  readonly connectTimeout: number
  /** Emits whenever {@link Options.credentials} would return different credentials. */
  readonly changes: Stream.Stream<unknown>
  /** Maximum calls in flight. Since each response is limited in size, this limits the memory of all responses together. */
  readonly maxCalls: number
}

/** A grpc-js client for one call, to be released after it. */
export interface Lease {
  readonly _tag: "Lease"
  readonly client: Client
  /** Idempotent. */
  readonly release: () => void
}

/** A lease, or the reason why there is none. */
export type Leased = Lease | Status.StatusOf<"Unavailable"> | Status.StatusOf<"ResourceExhausted">

/**
 * A client of grpc-js:
 * - `current`: used for new calls.
 * - `candidate`: it has newer credentials than the current one, and replaces it once it is connected, or as soon as the current one
 *   has no connection.
 * - `retired`: it has been replaced, and is closed when its last call has ended.
 * - `closed`: grpc-js throws if it is called or watched.
 */
interface Generation {
  readonly client: Client
  state: "current" | "candidate" | "retired" | "closed"
  calls: number
}

/** Returns a function that grants leases until the scope closes. The client connects at the first call. */
export const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<() => Leased, never, Scope.Scope> {
  const context = yield* Effect.context<never>()
  const replaceable = new ReplaceableClient(
    options,
    CallbackGuard.make(context),
    (message) => void Effect.runForkWith(context)(Effect.logWarning(message))
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => replaceable.close()))
  yield* options.changes.pipe(
    Stream.runForEach(() =>
      Effect.sync(() => replaceable.renew()).pipe(
        Effect.catchCause((cause) =>
          Effect.logError("Channel not recreated with new certificates", Cause.squash(cause))
        )
      )
    ),
    // subscribe before the first change
    Effect.forkScoped({ startImmediately: true })
  )
  return replaceable.lease
})

class ReplaceableClient {
  readonly #options: Options
  readonly #guard: CallbackGuard.Guard
  readonly #warn: (message: string) => void
  #current: Generation
  #candidate: Generation | undefined = undefined
  /** Calls in flight, of all generations. */
  #calls = 0

  constructor(options: Options, guard: CallbackGuard.Guard, warn: (message: string) => void) {
    this.#options = options
    this.#guard = guard
    this.#warn = warn
    this.#current = this.#open("current")
  }

  readonly lease = (): Leased => {
    const { maxCalls, target } = this.#options
    const generation = this.#current
    if (generation.state === "closed") return Status.unavailable(`The channel to ${target} is closed`)
    if (this.#calls >= maxCalls) return Status.resourceExhausted(`Too many calls to ${target} at once`)
    generation.calls++
    this.#calls++
    let isReleased = false
    return {
      _tag: "Lease",
      client: generation.client,
      release: () => {
        if (isReleased) return
        isReleased = true
        generation.calls--
        this.#calls--
        if (generation.state === "retired" && generation.calls === 0) close(generation)
      }
    }
  }

  /** Makes a client with the latest credentials. The current one makes calls until the new one is connected. */
  renew(): void {
    const candidate = this.#open("candidate")
    this.#abandonCandidate()
    this.#candidate = candidate
    // promoted immediately if the current client is not connected; then it connects at the next call
    this.#promoteCandidate()
    if (this.#candidate === candidate) candidate.client.getChannel().getConnectivityState(true)
  }

  close(): void {
    this.#abandonCandidate()
    close(this.#current)
  }

  #open(state: "current" | "candidate"): Generation {
    const { channelOptions, credentials, target } = this.#options
    const generation: Generation = { client: new Client(target, credentials(), channelOptions), state, calls: 0 }
    this.#watch(generation)
    return generation
  }

  /** Waits for the next change of a generation's connectivity, or for its connect timeout. */
  #watch(generation: Generation): void {
    const channel = generation.client.getChannel()
    const state = channel.getConnectivityState(false)
    const deadline = state === connectivityState.CONNECTING ? Date.now() + this.#options.connectTimeout : Infinity
    channel.watchConnectivityState(
      state,
      deadline,
      this.#guard("connectivity of a gRPC channel", (error?: Error) => this.#onChange(generation, error !== undefined))
    )
  }

  #onChange(generation: Generation, isTimedOut: boolean): void {
    if (!isInUse(generation)) return
    this.#promoteCandidate()
    if (isTimedOut) this.#restart(generation)
    // it may have been replaced, and closed
    else if (isInUse(generation)) this.#watch(generation)
  }

  /** Replaces the current generation by the candidate, unless only the current one is connected. */
  #promoteCandidate(): void {
    const candidate = this.#candidate
    if (candidate === undefined || (isReady(this.#current) && !isReady(candidate))) return
    this.#candidate = undefined
    this.#replaceCurrent(candidate)
  }

  #replaceCurrent(generation: Generation): void {
    const replaced = this.#current
    this.#current = generation
    generation.state = "current"
    if (replaced.state === "closed") return
    replaced.state = "retired"
    if (replaced.calls === 0) close(replaced)
  }

  #abandonCandidate(): void {
    if (this.#candidate !== undefined) close(this.#candidate)
    this.#candidate = undefined
  }

  /** Replaces a generation whose connect timeout has expired. Calls that wait for its connection fail. */
  #restart(generation: Generation): void {
    this.#warn(`Connection to ${this.#options.target} timed out; recreating the channel`)
    if (generation.state === "candidate") this.renew()
    // the new one has the latest credentials, so no candidate is needed
    else if (generation.state === "current") this.#replaceCurrent(this.#open("current"))
    close(generation)
  }
}

const isInUse = ({ state }: Generation) => state === "current" || state === "candidate"

const isReady = ({ client, state }: Generation) =>
  state !== "closed" && client.getChannel().getConnectivityState(false) === connectivityState.READY

const close = (generation: Generation): void => {
  if (generation.state === "closed") return
  generation.state = "closed"
  generation.client.close()
}
