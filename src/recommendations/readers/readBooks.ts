/**
 * Reads books by their ids, also those that are no longer in the catalogue.
 */
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

import type { Book } from "../../domain/Book.ts"
import { bookColumns, type BookRow, fromRow } from "../catalog/bookRow.ts"

export const readBooks = Effect.fnUntraced(function* (
  ids: ReadonlyArray<number>
): Effect.fn.Return<ReadonlyArray<Book>, SqlError.SqlError, SqlClient.SqlClient> {
  if (ids.length === 0) return []
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<BookRow>`SELECT ${sql.literal(bookColumns)} FROM books WHERE ${sql.in("book_id", ids)}`
  return rows.map(fromRow)
})
