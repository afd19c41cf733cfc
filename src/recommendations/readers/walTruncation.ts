/**
 * Removes what was deleted from the write-ahead log of SQLite. In the file, `secure_delete` has overwritten it. In PostgreSQL, VACUUM and the
 * recycling of its log do the same.
 */
import { Effect, Latch, Queue, Schedule } from "effect"
import { SqlClient } from "effect/sql"

import { Database } from "../../layers/sql/Database.ts"
import * as repeatedTask from "../../layers/telemetry/repeatedTask.ts"

/** Between attempts: the first may fail because of a short read. */
const backoff = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")])

/** How long a caller waits for an attempt. */
const maxWait = "1 second"

/** The number of attempts that fail before there is a warning. */
const attemptsBeforeWarning = 3

export interface WalTruncation {
  /**
   * Has to run after a transaction that can have deleted something, whatever became of it: the log is truncated in the background. While
   * another process reads the file it cannot be, and is tried again until it can.
   */
  readonly request: Effect.Effect<void>
  /** Waits shortly for the attempt that a request has begun; not for one that is repeated later. */
  readonly attempted: Effect.Effect<void>
}

/** Truncates the log once, and when it is requested. There is one attempt at a time. */
export const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.onDialectOrElse({ pg: () => Effect.succeed(none), orElse: () => makeSqlite })
})

const none: WalTruncation = { request: Effect.void, attempted: Effect.void }

const makeSqlite = Effect.gen(function* () {
  const { run } = yield* Database
  const sql = yield* SqlClient.SqlClient
  /** Requests that came in while the log was being truncated are one. */
  const requests = yield* Queue.sliding<void>(1)
  /** Closed from a request to the end of its first attempt. */
  const attempted = yield* Latch.make(true)
  let isTruncating = false
  const guard = repeatedTask.makeGuard("The write-ahead log cannot be truncated")

  // outside of a transaction, on the connection that writes
  const checkpoint = Effect.scoped(
    Effect.flatMap(sql.reserve, (connection) => connection.executeValues("PRAGMA wal_checkpoint(TRUNCATE)", []))
  )
  /** Whether the log is empty. */
  const attempt = run("readers.truncate_log", checkpoint).pipe(
    Effect.map(([row]) => row?.[0] === 0),
    Effect.orElseSucceed(() => false),
    (attempt) => guard(attempt, () => false)
  )
  const truncate = Effect.suspend(() => {
    let failures = 0
    const attemptOrWarn = Effect.tap(attempt, (isDone) =>
      Effect.andThen(
        attempted.open,
        !isDone && ++failures === attemptsBeforeWarning
          ? Effect.logWarning(
              "The write-ahead log cannot be truncated, such as while another process reads the database, so forgotten readers may " +
                "still be in it; trying again"
            )
          : Effect.void
      )
    )
    return Effect.repeat(attemptOrWarn, { schedule: backoff, until: (isDone) => isDone })
  })

  const request = Effect.suspend(() => {
    Queue.offerUnsafe(requests, undefined)
    if (isTruncating) return Effect.void
    isTruncating = true
    return Effect.asVoid(attempted.close)
  })
  yield* request
  yield* Queue.take(requests).pipe(
    Effect.andThen(truncate),
    Effect.andThen(
      Effect.sync(() => {
        isTruncating = Queue.sizeUnsafe(requests) > 0
      })
    ),
    Effect.forever,
    Effect.forkScoped
  )
  const truncation: WalTruncation = { request, attempted: Effect.ignore(Effect.timeout(attempted.await, maxWait)) }
  return truncation
})
