/**
 * Detects by failed operations that a database cannot be reached, and then probes it until it can. Other failures are logged.
 */
import { Duration, Effect, Schedule, Scope, Stream, SubscriptionRef } from "effect"

import { codeOf, describeError, type Expected, isOutage, OperationTimeout } from "./operationErrors.ts"

/** Between attempts to reach the database. */
export const backoff = Schedule.jittered(
  Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("2 seconds")])
)

export interface Reachability {
  /** Why the database cannot be reached; undefined if it can, as far as is known. */
  readonly down: () => string | undefined
  readonly changes: Stream.Stream<boolean>
  /** An operation has failed. */
  readonly onError: (operation: string, error: Expected) => Effect.Effect<unknown>
}

/** `database` names it in log lines. Fibers run in `scope`. */
export const make = Effect.fnUntraced(function* (
  probe: Effect.Effect<unknown, Expected>,
  database: string,
  scope: Scope.Scope
): Effect.fn.Return<Reachability, never, Scope.Scope> {
  const state = yield* SubscriptionRef.make<string | undefined>(undefined)
  const down = () => SubscriptionRef.getUnsafe(state)
  const warnOfFailure = makeFailureLog(database)
  let isProbing = false

  const recover = Effect.gen(function* () {
    const [elapsed] = yield* Effect.timed(Effect.orDie(Effect.retry(probe, backoff)))
    yield* SubscriptionRef.set(state, undefined)
    yield* Effect.logInfo("Database available again").pipe(
      Effect.annotateLogs({ database, durationMs: Math.round(Duration.toMillis(elapsed)) })
    )
  })

  const onOutage = (error: Expected) =>
    Effect.suspend(() => {
      if (down() !== undefined) return Effect.void
      const reason = describeError(error)
      return SubscriptionRef.set(state, reason).pipe(
        Effect.andThen(Effect.annotateLogs(Effect.logWarning("Database unavailable"), { database, reason })),
        Effect.andThen(Effect.forkIn(recover, scope))
      )
    })

  const probeOnce = Effect.suspend(() => {
    if (isProbing || down() !== undefined) return Effect.void
    isProbing = true
    const probed = Effect.catch(probe, onOutage).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          isProbing = false
        })
      )
    )
    return Effect.forkIn(probed, scope)
  })

  return {
    down,
    changes: Stream.map(SubscriptionRef.changes(state), (reason) => reason === undefined),
    onError: (operation, error) =>
      Effect.gen(function* () {
        if (isOutage(error)) return yield* onOutage(error)
        yield* warnOfFailure(operation, error)
        // one slow statement is no outage: another one decides
        if (error instanceof OperationTimeout) yield* probeOnce
      })
  }
})

/** How often a failure of the same operation for the same reason is logged. */
const warningInterval = Duration.minutes(1)

/** Logs failures of operations while the database can be reached, such as those of a full disk. */
const makeFailureLog = (database: string) => {
  const loggedAt = new Map<string, number>()
  return (operation: string, error: Expected) =>
    Effect.clockWith((clock) => {
      const reason = describeError(error)
      const key = `${operation} ${codeOf(error)}`
      const now = clock.currentTimeMillisUnsafe()
      if (now - (loggedAt.get(key) ?? -Infinity) < Duration.toMillis(warningInterval)) return Effect.void
      loggedAt.set(key, now)
      return Effect.annotateLogs(Effect.logWarning("Database operation failed"), {
        database,
        operation,
        reason
      })
    })
}
