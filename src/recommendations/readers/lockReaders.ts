/**
 * Locks the rows of readers for the rest of a transaction, always in ascending order, so that transactions do not deadlock.
 */
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

import { accountTombstoneLifetime, firstCreatedId } from "../../domain/Feedback.ts"
import { jsonRows } from "../../layers/sql/jsonRows.ts"
import * as databaseClock from "./databaseClock.ts"

export interface LockedReaders {
  /** By id, whether the reader has been forgotten. Ids that CreateReader has not given are missing. */
  readonly isForgotten: ReadonlyMap<number, boolean>
  /** When the locks were taken, in milliseconds since 1970 by the clock of the database; 0 without readers. */
  readonly now: number
}

interface Row {
  readonly user_id: number
  readonly forgotten_at: number | null
  readonly now: number
}

/** Locks the rows of distinct readers and raises their versions. The rows of the shop's own accounts are made where they are missing. */
export const lockReaders = Effect.fnUntraced(function* (
  userIds: ReadonlyArray<number>
): Effect.fn.Return<LockedReaders, SqlError.SqlError, SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient
  const now = databaseClock.now(sql)
  const input = jsonRows(
    sql,
    { user_id: "INTEGER" },
    userIds.map((user_id) => ({ user_id }))
  )
  const rows = yield* sql<Row>`
    INSERT INTO readers (user_id, version)
    SELECT input.user_id, 1 FROM ${input}
    WHERE input.user_id < ${firstCreatedId} OR EXISTS (SELECT 1 FROM readers known WHERE known.user_id = input.user_id)
    ORDER BY input.user_id
    ON CONFLICT (user_id) DO UPDATE SET
      version = readers.version + 1,
      forgotten_at = CASE
        WHEN readers.user_id < ${firstCreatedId} AND readers.forgotten_at <= ${now} - ${accountTombstoneLifetime} THEN NULL
        ELSE readers.forgotten_at
      END
    RETURNING user_id, forgotten_at, ${now} AS now`
  return {
    isForgotten: new Map(rows.map(({ forgotten_at, user_id }) => [user_id, forgotten_at !== null])),
    now: Math.max(0, ...rows.map(({ now }) => now))
  }
})
