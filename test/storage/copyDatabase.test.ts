import { assert, it } from "@effect/vitest"
import { Array as Arr, Context, Effect, Layer, type Scope } from "effect"
import { SqlClient } from "effect/sql"

import type { DatabaseUrl } from "../../src/layers/sql/DatabaseUrl.ts"
import { type Connection, copyDatabase } from "../../src/recommendations/database/copyDatabase.ts"
import { connect, describeStorage, sqlite } from "./StorageTest.ts"

const open = (url: DatabaseUrl): Effect.Effect<Connection, unknown, Scope.Scope> => Layer.build(connect(url))

/** All rows of the tables, in the order of their columns. */
const contents = Effect.fnUntraced(function* (connection: Connection) {
  const sql = Context.get(connection, SqlClient.SqlClient)
  return {
    catalogs: yield* sql`SELECT * FROM catalogs ORDER BY 1`,
    books:
      yield* sql`SELECT book_id, catalog_id, title, authors, year, isbn10, categories, folded_title, words FROM books ORDER BY 1`,
    readers: yield* sql`SELECT * FROM readers ORDER BY 1`,
    requests: yield* sql`SELECT * FROM reader_requests ORDER BY 1`,
    ids: yield* sql`SELECT * FROM reader_ids`,
    feedback: yield* sql`SELECT * FROM feedback ORDER BY 1`,
    readerBooks: yield* sql`SELECT * FROM reader_books ORDER BY 1, 2`
  }
})

const book = (id: number, year: number | null) => ({
  book_id: id,
  catalog_id: 1,
  title: `Ämne "${id}"; \\ NULL`,
  authors: '["A, B"]',
  year,
  isbn10: null,
  categories: "HORROR",
  folded_title: `amne ${id}`,
  words: `amne ${id} a b`
})

const feedback = (sequence: number) => ({
  feedback_id: `00000000-0000-4000-8000-${String(sequence).padStart(12, "0")}`,
  user_id: 7,
  book_id: 1,
  kind: 7,
  rating: 5,
  happened_at: 1_700_000_000_000 + sequence,
  recommendation_id: ""
})

/** More rows than are copied at a time. */
const feedbackCount = 4_001

const fill = Effect.fnUntraced(function* (connection: Connection) {
  const sql = Context.get(connection, SqlClient.SqlClient)
  const overriding = sql.onDialectOrElse({
    pg: () => sql.literal("OVERRIDING SYSTEM VALUE"),
    orElse: () => sql.literal("")
  })
  yield* sql`INSERT INTO catalogs (catalog_id, sha256, book_count, imported_at) ${overriding} VALUES (3, 'ab', 2, 5)`
  yield* sql`INSERT INTO books ${sql.insert([book(1, -400), book(2, null)])}`
  yield* sql`INSERT INTO readers ${sql.insert([
    { user_id: 7, version: 3, forgotten_at: null },
    { user_id: 1_000_000_000, version: 1, forgotten_at: 1_700_000_000_000 }
  ])}`
  yield* sql`INSERT INTO reader_requests ${sql.insert({ request_id: "r", user_id: 7 })}`
  yield* sql`UPDATE reader_ids SET next_id = 1000000005`
  const rows = Array.from({ length: feedbackCount }, (_, index) => feedback(index + 1))
  for (const chunk of Arr.chunksOf(rows, 500)) yield* sql`INSERT INTO feedback ${sql.insert(chunk)}`
  yield* sql`INSERT INTO reader_books ${sql.insert({ user_id: 7, book_id: 1, kind: 7, rating: 5, happened_at: 1, sequence: 1 })}`
})

describeStorage("copyDatabase", ({ fresh, system }) => {
  it.live.each([
    ["from a file of SQLite", sqlite.fresh, fresh],
    ["to a file of SQLite", fresh, sqlite.fresh]
  ] as const)("copies everything %s", ([, freshSource, freshTarget]) =>
    Effect.scoped(
      Effect.gen(function* () {
        const [sourceUrl, targetUrl] = [yield* freshSource, yield* freshTarget]
        const expected = yield* Effect.scoped(
          Effect.gen(function* () {
            const source = yield* open(sourceUrl)
            yield* fill(source)
            return yield* contents(source)
          })
        )
        const source = yield* open(sourceUrl._tag === "Sqlite" ? { ...sourceUrl, isExclusive: true } : sourceUrl)
        const target = yield* open(targetUrl)
        assert.deepStrictEqual(yield* copyDatabase(source, target), [
          { table: "catalogs", rows: 1 },
          { table: "books", rows: 2 },
          { table: "readers", rows: 2 },
          { table: "reader_requests", rows: 1 },
          { table: "reader_ids", rows: 1 },
          { table: "feedback", rows: feedbackCount },
          { table: "reader_books", rows: 1 }
        ])
        assert.deepStrictEqual(yield* contents(target), expected)
        // what comes next is above what was copied
        const sql = Context.get(target, SqlClient.SqlClient)
        const [inserted] = yield* sql<{
          readonly sequence: number
        }>`INSERT INTO feedback ${sql.insert(feedback(feedbackCount + 1))} RETURNING sequence`
        assert.strictEqual(inserted!.sequence, feedbackCount + 1)
      })
    )
  )

  it.live("refuses a target that has rows, and leaves it as it was", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const source = yield* open(yield* sqlite.fresh)
        const target = yield* open(yield* fresh)
        yield* Context.get(
          target,
          SqlClient.SqlClient
        )`INSERT INTO reader_requests (request_id, user_id) VALUES ('r', 1)`
        const before = yield* contents(target)
        const error = yield* Effect.flip(copyDatabase(source, target))
        assert.strictEqual(error.message, "The target is not empty: its table reader_requests has rows")
        assert.deepStrictEqual(yield* contents(target), before)
      })
    )
  )

  it.live("refuses a source that another process has open", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        const other = yield* open(url)
        yield* fill(other)
        const sourceUrl = url._tag === "Sqlite" ? { ...url, isExclusive: true } : url
        const copied = Effect.gen(function* () {
          const source = yield* Layer.build(connect(sourceUrl, [])).pipe(Effect.timeout("10 seconds"))
          return yield* copyDatabase(source, yield* open(yield* sqlite.fresh))
        })
        const error = yield* Effect.flip(Effect.scoped(copied))
        assert.match(
          String(error),
          system === "sqlite"
            ? /the file is locked by another process/
            : /1 connections of Recommendations to the source are open/
        )
      })
    )
  )
})
