/**
 * Reads books by their ids, also those that are no longer in the catalogue.
 */
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

import type { Book } from "../../domain/Book.ts"

interface Row {
  readonly book_id: number
  readonly title: string
  readonly authors: string
  readonly year: number | null
  readonly isbn10: string | null
  readonly categories: string
}

export const readBooks = Effect.fnUntraced(function* (
  ids: ReadonlyArray<number>
): Effect.fn.Return<ReadonlyArray<Book>, SqlError.SqlError, SqlClient.SqlClient> {
  if (ids.length === 0) return []
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<Row>`
    SELECT book_id, title, authors, year, isbn10, categories FROM books WHERE ${sql.in("book_id", ids)}`
  return rows.map(({ authors, book_id, categories, isbn10, title, year }) => ({
    id: book_id,
    title,
    authors: JSON.parse(authors) as Book["authors"],
    ...(year === null ? {} : { year }),
    ...(isbn10 === null ? {} : { isbn10 }),
    categories: JSON.parse(categories) as Book["categories"]
  }))
})
