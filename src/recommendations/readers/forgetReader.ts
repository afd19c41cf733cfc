/**
 * Forgets readers: deletes everything about them, and leaves only the row that makes late feedback be dropped.
 */
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

import { firstCreatedId } from "../../domain/Feedback.ts"
import * as databaseClock from "./databaseClock.ts"

/** Runs in a transaction, and returns the number of deleted records. */
export const forgetReader = Effect.fnUntraced(function* (
  userId: number
): Effect.fn.Return<number, SqlError.SqlError, SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient
  const now = databaseClock.now(sql)
  // locks the reader; the id of a reader who is not created yet gets no row. The version would tell how active the reader was
  const locked =
    userId < firstCreatedId
      ? yield* sql`
          INSERT INTO readers (user_id, version, forgotten_at) VALUES (${userId}, 1, ${now})
          ON CONFLICT (user_id) DO UPDATE SET version = excluded.version, forgotten_at = excluded.forgotten_at
          RETURNING user_id`
      : yield* sql`
          UPDATE readers SET version = 1, forgotten_at = ${now} WHERE user_id = ${userId} RETURNING user_id`
  if (locked.length === 0) return 0
  const [feedback] = yield* sql<{ readonly count: number }>`
    SELECT COUNT(*) AS count FROM feedback WHERE user_id = ${userId}`
  yield* sql`DELETE FROM feedback WHERE user_id = ${userId}`
  yield* sql`DELETE FROM reader_books WHERE user_id = ${userId}`
  yield* sql`DELETE FROM reader_requests WHERE user_id = ${userId}`
  return feedback!.count
})
