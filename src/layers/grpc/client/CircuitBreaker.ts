/**
 * The circuit breaker of a gRPC service: after several consecutive calls that failed with UNAVAILABLE or DEADLINE_EXCEEDED, calls fail
 * immediately for a while; then one call at a time probes whether the service is reachable again. An expired deadline that is noticed
 * late does not count: this process was too busy to read the response. Times are monotonic.
 *
 * Effect's CircuitBreaker does not fit: it uses the wall clock, counting each success with it is too slow for the hot path, and without
 * successes it cannot detect consecutive failures.
 */
import { Cause, Duration, Effect, Exit, type Scope } from "effect"

import * as ObservableMetric from "../../telemetry/ObservableMetric.ts"
import { GrpcError } from "../GrpcError.ts"
import * as Status from "../Status.ts"

export interface Options {
  /** The target of the channel, for log lines and metrics. */
  readonly target: string
  /** The gRPC service, with its package. */
  readonly service: string
  /** The number of consecutive failures that opens the circuit. */
  readonly failures: number
  /** How long it stays open before a call probes the service. */
  readonly openDuration: Duration.Duration
}

/** Makes a call and records its outcome, or fails with UNAVAILABLE while the circuit is open. `make` is called at most once. */
export type CircuitBreaker = <A, R>(
  call: CalledMethod,
  make: () => Effect.Effect<A, GrpcError, R>
) => Effect.Effect<A, GrpcError, R>

/** The parts of a call that its circuit breaker needs. */
export interface CalledMethod {
  /** In milliseconds of `performance.now()`. */
  readonly deadline: number
  /** `path` is "/package.Service/Method". */
  readonly definition: { readonly path: string }
}

type State =
  | { readonly _tag: "closed"; failuresInARow: number }
  /** `until` is in milliseconds of `performance.now()`; after that, the next call is the probe. */
  | { readonly _tag: "open"; readonly until: number }
  /** The probe is in flight; all other calls fail. */
  | { readonly _tag: "half_open" }

const stateTags = ["closed", "open", "half_open"] as const

/** What a finished call shows about the service. */
type Outcome = "reachable" | "unreachable" | "inconclusive"

/**
 * How late the failure of an expired deadline may be noticed, in milliseconds. Later ones are inconclusive: this process itself was too busy
 * to read the response in time.
 */
const maxLateness = 50

/** A service that answers with an error is reachable. */
const outcomeOf = (cause: Cause.Cause<GrpcError>, { deadline }: CalledMethod): Outcome => {
  const failure = cause.reasons.find(Cause.isFailReason)?.error
  switch (failure?.reason._tag) {
    case undefined:
    case "ResourceExhausted":
      return "inconclusive"
    case "Unavailable":
      return "unreachable"
    case "DeadlineExceeded":
      return performance.now() - deadline > maxLateness ? "inconclusive" : "unreachable"
    default:
      return "reachable"
  }
}

export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<CircuitBreaker, never, Scope.Scope> {
  const { failures, service, target } = options
  const openFor = Duration.toMillis(options.openDuration)
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const log = (line: Effect.Effect<void>) => void runFork(Effect.annotateLogs(line, { target }))
  let state: State = { _tag: "closed", failuresInARow: 0 }
  for (const tag of stateTags) {
    yield* ObservableMetric.gauge(
      "grpc_client_circuit_state",
      "The state of the circuit breaker: 1 for the state that it is in",
      () => (state._tag === tag ? 1 : 0),
      { target, grpc_service: service, state: tag }
    )
  }

  const open = () => {
    state = { _tag: "open", until: performance.now() + openFor }
    log(
      Effect.logWarning(
        `Circuit breaker opened for ${service}; next attempt in ${Duration.format(options.openDuration)}`
      )
    )
  }
  const record = (outcome: Outcome, isProbe: boolean) => {
    if (outcome === "reachable") {
      // the probe succeeded, or a call that started before the circuit opened
      if (state._tag !== "closed") log(Effect.logInfo(`Circuit breaker closed for ${service}`))
      state = { _tag: "closed", failuresInARow: 0 }
    } else if (isProbe) {
      if (state._tag !== "half_open") return
      if (outcome === "unreachable") open()
      // it was interrupted, or the service is overloaded: the next call is the probe
      else state = { _tag: "open", until: performance.now() }
    } else if (outcome === "unreachable" && state._tag === "closed" && ++state.failuresInARow >= failures) open()
  }

  const onSuccess = <A>(value: A): Effect.Effect<A> => {
    if (state._tag === "closed") state.failuresInARow = 0
    else record("reachable", false)
    return Effect.succeed(value)
  }
  const observe = <A, R>(call: CalledMethod, made: Effect.Effect<A, GrpcError, R>): Effect.Effect<A, GrpcError, R> =>
    Effect.matchCauseEffect(made, {
      onSuccess: onSuccess<A>,
      onFailure: (cause) => {
        record(outcomeOf(cause, call), false)
        return Effect.failCause(cause)
      }
    })
  // uninterruptible between the two states, so that the circuit never stays half-open
  const probe: CircuitBreaker = (call, make) =>
    Effect.uninterruptibleMask((restore) => {
      if (state._tag !== "open") return restore(make())
      state = { _tag: "half_open" }
      return Effect.onExit(restore(Effect.suspend(make)), (exit) =>
        Effect.sync(() => record(Exit.isSuccess(exit) ? "reachable" : outcomeOf(exit.cause, call), true))
      )
    })

  return (call, make) => {
    if (state._tag === "closed") return observe(call, make())
    // the state may change before the call runs
    return Effect.suspend(() => {
      if (state._tag === "closed") return observe(call, make())
      if (state._tag === "open" && performance.now() >= state.until) return probe(call, make)
      const reason = Status.unavailable(`Circuit breaker is open for ${target}`)
      return Effect.fail(new GrpcError({ method: call.definition.path.slice(1), reason }))
    })
  }
})
