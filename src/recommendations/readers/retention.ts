/**
 * Deletes what is kept for a time: impressions, which are by far the most feedback and only count for a while, and the rows that drop late
 * feedback of the shop's own accounts after these were forgotten.
 */
import { Duration, Effect } from "effect"
import { SqlClient, type Statement } from "effect/sql"

import { accountTombstoneLifetime, firstCreatedId } from "../../domain/Feedback.ts"
import { Database } from "../../layers/sql/Database.ts"
import * as repeatedTask from "../../layers/telemetry/repeatedTask.ts"
import { numberByKind } from "../kindNumbers.ts"
import * as databaseClock from "./databaseClock.ts"

/** Deleted in one transaction, so that others do not wait for long. */
const batchSize = 1000

const interval: Duration.Input = "1 hour"

/** Deletes what has expired: now, and every hour. Impressions expire when they happened longer ago than `impressionRetention`. */
export const run = Effect.fnUntraced(function* (impressionRetention: Duration.Duration) {
  const guard = repeatedTask.makeGuard("Expired rows cannot be deleted")
  const deleteAll = Effect.andThen(deleteImpressions(impressionRetention), deleteTombstones).pipe(
    Effect.asVoid,
    Effect.catchTag("DatabaseUnavailable", ({ reason }) =>
      Effect.annotateLogs(Effect.logWarning("Expired rows could not be deleted; trying again later"), { reason })
    ),
    guard
  )
  return yield* Effect.forever(Effect.andThen(deleteAll, Effect.sleep(interval)))
})

/** Deletes impressions that happened longer ago than `retention`, and returns their number. */
export const deleteImpressions = (retention: Duration.Duration) =>
  deleteBatches("readers.delete_impressions", (sql, { lock, now }) => {
    const isImpression = sql`kind = ${sql.literal(String(numberByKind.get("IMPRESSION")))}`
    return sql`DELETE FROM feedback WHERE sequence IN (
      SELECT sequence FROM feedback WHERE ${isImpression} AND happened_at < ${now} - ${Duration.toMillis(retention)}
      ORDER BY happened_at LIMIT ${batchSize} ${lock}
    ) RETURNING sequence`
  })

interface Fragments {
  /** Locks the rows of a query that nobody has locked. */
  readonly lock: Statement.Fragment
  /** The time in milliseconds since 1970 (UTC). */
  readonly now: Statement.Fragment
}

/** Repeats a statement that deletes and returns at most {@link batchSize} rows until there are no more, and returns their number. */
const deleteBatches = Effect.fnUntraced(function* (
  operation: string,
  statement: (sql: SqlClient.SqlClient, fragments: Fragments) => Statement.Statement<object>
) {
  const { transaction } = yield* Database
  const sql = yield* SqlClient.SqlClient
  const deleteBatch = transaction(
    operation,
    statement(sql, {
      // a transaction that forgets a reader must not wait for this one while this one waits for it
      lock: sql.onDialectOrElse({ pg: () => sql`FOR UPDATE SKIP LOCKED`, orElse: () => sql`` }),
      // a subquery, because PostgreSQL uses no index for a condition whose value can change from row to row
      now: sql`(SELECT ${databaseClock.now(sql)})`
    })
  )
  let deleted = 0
  for (;;) {
    const { length } = yield* deleteBatch
    deleted += length
    if (length < batchSize) return deleted
  }
})

/** Deletes the rows of the shop's own accounts that drop no feedback any more, and returns their number. */
export const deleteTombstones = deleteBatches(
  "readers.delete_tombstones",
  (sql, { lock, now }) =>
    sql`DELETE FROM readers WHERE user_id IN (
      SELECT user_id FROM readers
      WHERE user_id < ${firstCreatedId} AND forgotten_at <= ${now} - ${accountTombstoneLifetime}
      ORDER BY user_id LIMIT ${batchSize} ${lock}
    ) RETURNING user_id`
)
