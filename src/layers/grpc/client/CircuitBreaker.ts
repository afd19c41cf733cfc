/**
 * The circuit breaker of a channel: after several calls in a row that got no answer, calls fail at once for a while; then one call
 * at a time probes whether the target answers again. Times are monotonic.
 *
 * It is a state machine of its own rather than effect's CircuitBreaker, which goes by the wall clock, and which is too slow to be
 * told of every success: a breaker that hears of failures only opens without failures in a row.
 */
import { Cause, Duration, Effect, type Exit, type Scope } from "effect"

import * as ObservableMetric from "../../telemetry/ObservableMetric.ts"
import type { GrpcError } from "../GrpcError.ts"

export interface Options {
  /** What is called, for log lines and metrics. */
  readonly target: string
  /** How many calls fail in a row before the circuit opens. */
  readonly failures: number
  /** How long it stays open before a call probes the target. */
  readonly openDuration: Duration.Duration
  /** What a call fails with that is not made. */
  readonly refuse: (method: string) => Effect.Effect<never, GrpcError>
}

/** Makes a call unless the circuit is open, and notes its outcome. */
export type CircuitBreaker = <A, R>(
  method: string,
  call: Effect.Effect<A, GrpcError, R>
) => Effect.Effect<A, GrpcError, R>

type State =
  | { readonly _tag: "closed"; failuresInARow: number }
  /** `until` is by `performance.now()`; after that, the next call is the probe. */
  | { readonly _tag: "open"; readonly until: number }
  /** One call is under way; any other is refused. */
  | { readonly _tag: "half_open" }

const stateTags = ["closed", "open", "half_open"] as const

/** What the outcome of a call says about the target. */
type Sign = "alive" | "dead" | "none"

/** A target is dead if it does not answer. An error that it answers with is a sign of life. */
const signOf = (cause: Cause.Cause<GrpcError>): Sign => {
  const failure = cause.reasons.find(Cause.isFailReason)?.error
  switch (failure?.reason._tag) {
    case undefined:
    case "ResourceExhausted":
      return "none"
    case "Unavailable":
    case "DeadlineExceeded":
      return "dead"
    default:
      return "alive"
  }
}

export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<CircuitBreaker, never, Scope.Scope> {
  const { failures, refuse, target } = options
  const openFor = Duration.toMillis(options.openDuration)
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  let state: State = { _tag: "closed", failuresInARow: 0 }
  for (const label of stateTags) {
    yield* ObservableMetric.gauge(
      "grpc_client_circuit_state",
      "Whether calls are made: 1 for the state that the circuit is in",
      () => (state._tag === label ? 1 : 0),
      { target, state: label }
    )
  }

  const open = () => {
    state = { _tag: "open", until: performance.now() + openFor }
    runFork(
      Effect.logWarning(
        `Circuit breaker is open for ${target}; next attempt in ${Duration.format(options.openDuration)}`
      )
    )
  }
  const onAlive = () => {
    if (state._tag === "closed") {
      state.failuresInARow = 0
      return
    }
    // also told by a call that was begun before the circuit opened
    state = { _tag: "closed", failuresInARow: 0 }
    runFork(Effect.logInfo(`Circuit breaker is closed for ${target}`))
  }
  const onDead = () => {
    // while it is open or probed, a call that was begun before tells nothing new
    if (state._tag === "closed" && ++state.failuresInARow >= failures) open()
  }
  const onSign = (sign: Sign) => {
    if (sign === "alive") onAlive()
    else if (sign === "dead") onDead()
  }

  const observed = <A, R>(call: Effect.Effect<A, GrpcError, R>): Effect.Effect<A, GrpcError, R> =>
    Effect.matchCauseEffect(call, {
      onSuccess: (value) => {
        onAlive()
        return Effect.succeed(value)
      },
      onFailure: (cause) => {
        onSign(signOf(cause))
        return Effect.failCause(cause)
      }
    })

  const onProbed = (exit: Exit.Exit<unknown, GrpcError>) => {
    const sign = exit._tag === "Success" ? "alive" : signOf(exit.cause)
    if (sign === "alive") return onAlive()
    if (state._tag !== "half_open") return
    if (sign === "dead") open()
    // it was interrupted, or the target is too busy: the next call is the probe
    else state = { _tag: "open", until: performance.now() }
  }
  // the probe must end as surely as it begins
  const probe = <A, R>(call: Effect.Effect<A, GrpcError, R>): Effect.Effect<A, GrpcError, R> =>
    Effect.uninterruptibleMask((restore) => {
      if (state._tag !== "open") return restore(call)
      state = { _tag: "half_open" }
      return Effect.onExit(restore(call), (exit) => Effect.sync(() => onProbed(exit)))
    })

  return (method, call) => {
    if (state._tag === "closed") return observed(call)
    // decided when it is run
    return Effect.suspend(() => {
      if (state._tag === "closed") return observed(call)
      return state._tag === "open" && performance.now() >= state.until ? probe(call) : refuse(method)
    })
  }
})
