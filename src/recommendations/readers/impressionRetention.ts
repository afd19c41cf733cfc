/**
 * Deletes impressions after a time. They are by far the most feedback, and only count for a while.
 */
import { Duration, Effect } from "effect"
import { SqlClient } from "effect/sql"

import { Database } from "../../layers/sql/Database.ts"
import { numberByKind } from "../kindNumbers.ts"
import * as databaseClock from "./databaseClock.ts"

/** Deleted in one transaction, so that others do not wait for long. */
const batchSize = 1000

const interval: Duration.Input = "1 hour"

/** Deletes impressions that happened longer ago than `retention`: now, and every hour. */
export const run = Effect.fnUntraced(function* (retention: Duration.Duration) {
  const deleteAll = deleteExpired(retention).pipe(
    Effect.catchTag("DatabaseUnavailable", ({ reason }) =>
      Effect.annotateLogs(Effect.logWarning("Old impressions could not be deleted; trying again later"), { reason })
    )
  )
  return yield* Effect.forever(Effect.andThen(deleteAll, Effect.sleep(interval)))
})

/** Deletes impressions that happened longer ago than `retention`, in batches, and returns their number. */
export const deleteExpired = Effect.fnUntraced(function* (retention: Duration.Duration) {
  const { transaction } = yield* Database
  const sql = yield* SqlClient.SqlClient
  // a subquery, because PostgreSQL uses no index for a condition whose value can change from row to row
  const expiredBefore = sql`(SELECT ${databaseClock.now(sql)} - ${Duration.toMillis(retention)})`
  // a transaction that forgets a reader must not wait for this one while this one waits for it
  const skipLocked = sql.onDialectOrElse({ pg: () => sql`FOR UPDATE SKIP LOCKED`, orElse: () => sql`` })
  const deleteBatch = transaction(
    "readers.delete_impressions",
    sql`DELETE FROM feedback WHERE sequence IN (
      SELECT sequence FROM feedback
      WHERE kind = ${sql.literal(String(numberByKind.get("IMPRESSION")))} AND happened_at < ${expiredBefore}
      ORDER BY happened_at LIMIT ${batchSize} ${skipLocked}
    ) RETURNING sequence`
  )
  let deleted = 0
  for (;;) {
    const { length } = yield* deleteBatch
    deleted += length
    if (length < batchSize) return deleted
  }
})
