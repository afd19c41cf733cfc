/**
 * Removes what was deleted from the write-ahead log of SQLite. In the file, `secure_delete` has overwritten it. In PostgreSQL, VACUUM and the
 * recycling of its log do the same.
 */
import { type Duration, Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"

import { Database } from "../../layers/sql/Database.ts"

/** How long to wait before the next attempt. */
const interval: Duration.Input = "1 minute"

/** Returns an effect that truncates the log. While another process reads the file it cannot, and tries again until it can. */
export const make = Effect.gen(function* () {
  const { run } = yield* Database
  const scope = yield* Effect.scope
  const sql = yield* SqlClient.SqlClient
  let isPending = false

  const checkpoint = Effect.map(sql`PRAGMA wal_checkpoint(TRUNCATE)`.values, ([row]) => row?.[0] === 0)
  const attempt = Effect.orElseSucceed(run("readers.truncate_log", checkpoint), () => false)
  const attemptLater = Effect.repeat(attempt, {
    schedule: Schedule.spaced(interval),
    until: (isDone) => isDone
  }).pipe(
    Effect.delay(interval),
    Effect.andThen(
      Effect.sync(() => {
        isPending = false
      })
    ),
    Effect.forkIn(scope)
  )
  const truncate = Effect.flatMap(attempt, (isDone) => {
    if (isDone || isPending) return Effect.void
    isPending = true
    return Effect.andThen(
      Effect.logWarning(
        "A forgotten reader is still in the write-ahead log, because another process reads the database; trying again"
      ),
      attemptLater
    )
  })
  return { truncate: sql.onDialectOrElse({ pg: () => Effect.void, orElse: () => truncate }) }
})
