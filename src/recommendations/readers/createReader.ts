/**
 * Creates readers.
 */
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

import { lastCreatedId } from "../../domain/Feedback.ts"
import { NoReaderIds } from "../../domain/Readers.ts"

interface Row {
  readonly user_id: number
}

/** Runs in a transaction, and returns the id of the reader that was created for a request. */
export const createReader = Effect.fnUntraced(function* (
  requestId: string
): Effect.fn.Return<number, NoReaderIds | SqlError.SqlError, SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient
  const findReader = sql<Row>`SELECT user_id FROM reader_requests WHERE request_id = ${requestId}`
  const [known] = yield* findReader
  if (known !== undefined) return known.user_id
  // from here on, one transaction at a time
  const [next] = yield* sql<Row>`UPDATE reader_ids SET next_id = next_id + 1 WHERE next_id <= ${lastCreatedId}
    RETURNING next_id - 1 AS user_id`
  const [created] = yield* findReader
  if (created !== undefined) return created.user_id
  if (next === undefined) return yield* new NoReaderIds()
  const { user_id } = next
  yield* sql`INSERT INTO readers (user_id, version) VALUES (${user_id}, 1)`
  yield* sql`INSERT INTO reader_requests (request_id, user_id) VALUES (${requestId}, ${user_id})`
  return user_id
})
