import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import { BookSearch, type Match, type SearchQuery, type WordQuery } from "../../src/domain/BookSearch.ts"
import * as Page from "../../src/domain/Page.ts"
import { book } from "./Books.ts"

const matches = (count: number): ReadonlyArray<Match> =>
  Array.from({ length: count }, (_, index) => ({
    book: book(index + 1),
    rank: { titleMatch: 2, titleLength: 5, bookId: index + 1 }
  }))

/** A search in an index of 30 books that all match; adds the queries of the index to `queries`. */
const searchIn = (queries: Array<WordQuery> = []) =>
  BookSearch.make((query) =>
    Effect.sync(() => {
      queries.push(query)
      return matches(30)
        .filter(({ rank }) => rank.bookId > (query.after?.bookId ?? 0))
        .slice(0, query.limit)
    })
  ).search

const query: SearchQuery = { query: "Dune", category: undefined, pageSize: undefined, pageToken: "" }

const fieldsOf = (searched: Partial<SearchQuery>) =>
  Effect.map(Effect.flip(searchIn()({ ...query, ...searched })), (error) =>
    error._tag === "InvalidQuery" ? error.violations.map(({ field }) => field) : error._tag
  )

describe("BookSearch", () => {
  it.effect("looks for the folded words of the query in its category", () =>
    Effect.gen(function* () {
      const queries: Array<WordQuery> = []
      yield* searchIn(queries)({ ...query, query: " Les  MISÉRABLES ", category: "CLASSICS", pageSize: 7 })
      assert.deepStrictEqual(queries, [
        { words: ["les", "miserables"], category: "CLASSICS", after: undefined, limit: 8 }
      ])
    })
  )

  it.effect("gives pages whose tokens continue after the last match", () =>
    Effect.gen(function* () {
      const search = searchIn()
      const first = yield* search(query)
      assert.strictEqual(first.books.length, 20)
      const second = yield* search({ ...query, query: "DUNE!", pageToken: first.nextPageToken })
      assert.deepStrictEqual([second.books.length, second.books[0]?.id, second.nextPageToken], [10, 21, ""])
    })
  )

  it.effect.each([
    { query: "" },
    { query: " \t\u00a0" },
    { query: "a".repeat(201) },
    { query: "😀".repeat(201) },
    { query: "a\u0000b" }
  ])("refuses the query $query", (searched) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* fieldsOf(searched), ["query"])
    })
  )

  it.effect.each(['"*', "😀".repeat(200), "' OR 1=1 --".replaceAll(/\w/g, ""), "-", "()"])(
    "finds nothing for a query without words: %s",
    (text) =>
      Effect.gen(function* () {
        const queries: Array<WordQuery> = []
        assert.deepStrictEqual(yield* searchIn(queries)({ ...query, query: text }), { books: [], nextPageToken: "" })
        assert.deepStrictEqual(queries, [])
      })
  )

  it.effect("refuses the token of another query", () =>
    Effect.gen(function* () {
      const { nextPageToken } = yield* searchIn()(query)
      for (const other of [{ query: "Dune 2" }, { category: "HORROR" }, { query: "und" }]) {
        assert.deepStrictEqual(yield* fieldsOf({ ...other, pageToken: nextPageToken }), ["pageToken"])
      }
      assert.deepStrictEqual(yield* fieldsOf({ pageToken: Page.encodeToken({ kind: "books", maxima: [9] }, [1]) }), [
        "pageToken"
      ])
    })
  )

  it.effect("reports every bad field before the category is looked up", () =>
    Effect.gen(function* () {
      const bad = { query: "", category: "99", pageSize: -1, pageToken: "!" }
      assert.deepStrictEqual(yield* fieldsOf(bad), ["query", "pageSize", "pageToken"])
      assert.strictEqual(yield* fieldsOf({ category: "99" }), "CategoryNotFound")
    })
  )
})
