/**
 * Finds the books and readers of feedback that the database does not know.
 */
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

import { type Feedback, firstCreatedId } from "../../domain/Feedback.ts"
import type { Violation } from "../../domain/InvalidQuery.ts"
import { jsonRows } from "../../layers/sql/jsonRows.ts"

export const unknownReader = "expected an id that CreateReader has given"
export const unknownBook = "expected a book that is or was in the catalogue"

/** The values of a key, each once. */
export const distinct = <A>(items: ReadonlyArray<A>, key: (item: A) => number): ReadonlyArray<number> => [
  ...new Set(items.map(key))
]

/** Returns the ids of books that have never been imported. */
export const findUnknownBooks = Effect.fnUntraced(function* (
  bookIds: ReadonlyArray<number>
): Effect.fn.Return<ReadonlySet<number>, SqlError.SqlError, SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient
  const input = jsonRows(
    sql,
    { book_id: "INTEGER" },
    bookIds.map((book_id) => ({ book_id }))
  )
  const rows = yield* sql<{ readonly book_id: number }>`
    SELECT input.book_id FROM ${input} WHERE NOT EXISTS (SELECT 1 FROM books WHERE books.book_id = input.book_id)`
  return new Set(rows.map(({ book_id }) => book_id))
})

/** Returns the ids of readers that CreateReader has to give, and has not given. */
const findUnknownReaders = Effect.fnUntraced(function* (
  userIds: ReadonlyArray<number>
): Effect.fn.Return<ReadonlySet<number>, SqlError.SqlError, SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient
  const input = jsonRows(
    sql,
    { user_id: "INTEGER" },
    userIds.filter((userId) => userId >= firstCreatedId).map((user_id) => ({ user_id }))
  )
  const rows = yield* sql<{ readonly user_id: number }>`
    SELECT input.user_id FROM ${input} WHERE NOT EXISTS (SELECT 1 FROM readers WHERE readers.user_id = input.user_id)`
  return new Set(rows.map(({ user_id }) => user_id))
})

/** The violations of unknown books and readers in feedback that is invalid for other reasons too. */
export const unknownIn = Effect.fnUntraced(function* (
  feedback: ReadonlyArray<Pick<Feedback, "userId" | "bookId">>
): Effect.fn.Return<ReadonlyArray<Violation>, SqlError.SqlError, SqlClient.SqlClient> {
  const readers = yield* findUnknownReaders(distinct(feedback, ({ userId }) => userId))
  const bookIds = distinct(feedback, ({ bookId }) => bookId).filter((bookId) => bookId >= 1)
  const books = yield* findUnknownBooks(bookIds)
  return feedback.flatMap(({ bookId, userId }, index) => [
    ...(readers.has(userId) ? [{ field: `feedback[${index}].userId`, description: unknownReader }] : []),
    ...(books.has(bookId) ? [{ field: `feedback[${index}].bookId`, description: unknownBook }] : [])
  ])
})
