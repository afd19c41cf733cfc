/**
 * The search for books in the database: by FTS5 in SQLite, by a text search vector in PostgreSQL. Both index the words that
 * {@link foldWords} made, and the order of matches depends only on columns, so both find the same books in the same order.
 */
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

import { CatalogUnavailable } from "../../domain/BookCatalog.ts"
import { BookSearch, type Match, type WordQuery } from "../../domain/BookSearch.ts"
import { Database } from "../../layers/sql/Database.ts"
import { bookColumns, type BookRow, fromRow } from "./bookRow.ts"

/** Searches in the current catalogue of the database. */
export const layer = Layer.effect(
  BookSearch,
  Effect.gen(function* () {
    const { run } = yield* Database
    const sql = yield* SqlClient.SqlClient

    /** The condition that a book has all words. Words contain letters and digits alone, so they need no escaping. */
    const hasWords = sql.onDialectOrElse({
      pg: () => (words: ReadonlyArray<string>) => {
        const query = words.map((word) => `'${word}'`).join(" & ")
        return sql`words_vector @@ CAST(CAST(${`${query}:*`} AS text) AS tsquery)`
      },
      orElse: () => (words: ReadonlyArray<string>) => {
        const query = words.map((word) => `"${word}"`).join(" ")
        return sql`book_id IN (SELECT rowid FROM books_words WHERE books_words MATCH ${`${query}*`})`
      }
    })

    const columns = sql.literal(bookColumns)
    const isCurrent = sql`catalog_id = (SELECT MAX(catalog_id) FROM catalogs)`
    const firstPage = sql``

    const find = ({ after, category, limit, words }: WordQuery) => {
      const title = words.join(" ")
      const conditions = [isCurrent, hasWords(words)]
      if (category !== undefined) conditions.push(sql`';' || categories || ';' LIKE ${`%;${category};%`}`)
      const ranked = sql`SELECT ${columns},
          CASE
            WHEN folded_title = ${title} THEN 0
            WHEN substr(folded_title, 1, ${Array.from(title).length}) = ${title} THEN 1
            ELSE 2
          END AS title_match,
          length(folded_title) AS title_length
        FROM books WHERE ${sql.and(conditions)}`
      const isAfter =
        after === undefined
          ? firstPage
          : sql`WHERE (title_match, title_length, book_id) > (${after.titleMatch}, ${after.titleLength}, ${after.bookId})`
      return sql<BookRow & RankRow>`SELECT * FROM (${ranked}) AS ranked ${isAfter}
        ORDER BY title_match, title_length, book_id LIMIT ${limit}`
    }

    return BookSearch.make((query) =>
      run("books.search", find(query)).pipe(
        Effect.map((rows) => rows.map(toMatch)),
        Effect.mapError((cause) => new CatalogUnavailable({ cause }))
      )
    )
  })
)

interface RankRow {
  readonly title_match: number
  readonly title_length: number
}

const toMatch = (row: BookRow & RankRow): Match => ({
  book: fromRow(row),
  rank: { titleMatch: row.title_match, titleLength: row.title_length, bookId: row.book_id }
})
