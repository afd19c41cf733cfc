import { assert, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { SqlClient } from "effect/sql"

import type { Book } from "../../src/domain/Book.ts"
import { BookSearch, type SearchQuery } from "../../src/domain/BookSearch.ts"
import { foldWords } from "../../src/domain/foldWords.ts"
import { Database } from "../../src/layers/sql/Database.ts"
import { CatalogStore } from "../../src/recommendations/catalog/CatalogStore.ts"
import { book } from "../domain/Books.ts"
import { catalogFileOf, connectCatalog } from "./CatalogFiles.ts"
import { describeStorage, type Provided } from "./StorageTest.ts"

const importBooks = (books: ReadonlyArray<Book>) =>
  Effect.gen(function* () {
    return yield* (yield* CatalogStore).importFile(yield* catalogFileOf(books))
  })

const search = (query: string, options?: Partial<SearchQuery>) =>
  Effect.gen(function* () {
    const { search } = yield* BookSearch
    return yield* search({ query, category: undefined, pageSize: 100, pageToken: "", ...options })
  })

const idsOf = (query: string, options?: Partial<SearchQuery>) =>
  Effect.map(search(query, options), ({ books }) => books.map(({ id }) => id))

const titled = (id: number, title: string, ...authors: ReadonlyArray<string>): Book => ({
  ...book(id),
  title,
  authors: [authors[0] ?? "Nobody", ...authors.slice(1)]
})

const shelf: ReadonlyArray<Book> = [
  titled(1, "Dune", "Frank Herbert"),
  titled(2, "Dune Messiah", "Frank Herbert"),
  titled(3, "Children of Dune", "Frank Herbert"),
  titled(4, "The Road to Dune", "Brian Herbert", "Kevin J. Anderson", "Frank Herbert"),
  titled(5, "Les Misérables", "Victor Hugo"),
  titled(6, "The Hitchhiker's Guide to the Galaxy", "Douglas Adams"),
  { ...titled(7, "Dune", "Another Author"), categories: ["HORROR"] },
  titled(8, "Война и мир", "Лев Толстой"),
  titled(9, "戦争と平和", "トルストイ"),
  titled(10, "ﬁnd Ⅷ", "İbrahim"),
  titled(11, "and or not near", "SELECT DROP"),
  titled(12, "Dunes", "Frank Herbert")
]

describeStorage("DatabaseSearch", ({ fresh, system }) => {
  const test = <E>(title: string, effect: Effect.Effect<void, E, BookSearch | CatalogStore | Provided | Scope.Scope>) =>
    it.live(title, () =>
      Effect.scoped(
        Effect.gen(function* () {
          yield* Effect.provide(effect, connectCatalog(yield* fresh))
        })
      )
    )

  test(
    "finds books by the words of titles and authors, best match first",
    Effect.gen(function* () {
      yield* importBooks(shelf)
      // the title equals the query, begins with it, or has its words elsewhere; then shorter titles, then lower ids
      assert.deepStrictEqual(yield* idsOf("dune"), [1, 7, 12, 2, 3, 4])
      assert.deepStrictEqual(yield* idsOf("herbert frank"), [1, 12, 2, 3, 4])
      assert.deepStrictEqual(yield* idsOf("dune m"), [2])
      assert.deepStrictEqual(yield* idsOf("messiah dun"), [2])
      assert.deepStrictEqual(yield* idsOf("mess dune"), [])
      assert.deepStrictEqual(yield* idsOf("dune nobody"), [])
    })
  )

  test(
    "ignores case, accents, forms of characters and punctuation, in every script",
    Effect.gen(function* () {
      yield* importBooks(shelf)
      for (const query of ["les miserables", "LES MISÉRABLES", "“Mise\u0301rables”, Hugo"]) {
        assert.deepStrictEqual(yield* idsOf(query), [5], query)
      }
      assert.deepStrictEqual(yield* idsOf("hitchhiker's guide"), [6])
      assert.deepStrictEqual(yield* idsOf("ВОИНА толст"), [8])
      assert.deepStrictEqual(yield* idsOf("戦争"), [9])
      assert.deepStrictEqual(yield* idsOf("find viii ibrahim"), [10])
    })
  )

  test(
    "takes operators and quotes of search languages and of SQL as words, or ignores them",
    Effect.gen(function* () {
      yield* importBooks(shelf)
      assert.deepStrictEqual(yield* idsOf("AND OR NOT NEAR"), [11])
      assert.deepStrictEqual(yield* idsOf("near(select, drop)"), [11])
      assert.deepStrictEqual(yield* idsOf("near select:drop*"), [11])
      for (const query of [
        `"*`,
        `dune" OR "x`,
        "dune' | 'x",
        "'); DROP TABLE books; --",
        "\\",
        "words:dune",
        "^dune",
        "a & !b"
      ]) {
        assert.isAtMost((yield* idsOf(query)).length, 6, query)
      }
      assert.deepStrictEqual(yield* idsOf("😀".repeat(200)), [])
      assert.deepStrictEqual(yield* idsOf("ﷺ".repeat(200)), [])
      assert.deepStrictEqual(
        yield* idsOf(Array.from({ length: 100 }, (_, index) => String.fromCodePoint(0x4e00 + index)).join(" ")),
        []
      )
      assert.strictEqual((yield* idsOf("dune")).length, 6)
    })
  )

  test(
    "finds long words by their first 100 characters",
    Effect.gen(function* () {
      yield* importBooks([titled(1, "𠀀".repeat(150)), titled(2, "a".repeat(512))])
      assert.deepStrictEqual(yield* idsOf("𠀀".repeat(120)), [1])
      assert.deepStrictEqual(yield* idsOf("a".repeat(200)), [2])
    })
  )

  test(
    "finds books of a category",
    Effect.gen(function* () {
      yield* importBooks([...shelf, { ...titled(20, "Dune"), categories: ["MYSTERY", "SCIENCE_FICTION", "HORROR"] }])
      assert.deepStrictEqual(yield* idsOf("dune", { category: "HORROR" }), [7, 20])
      assert.deepStrictEqual(yield* idsOf("dune", { category: "SCIENCE_FICTION" }), [20])
      assert.deepStrictEqual(yield* idsOf("dune", { category: "ROMANCE" }), [])
    })
  )

  test(
    "finds books of the current catalogue only, by their current words",
    Effect.gen(function* () {
      yield* importBooks(shelf)
      yield* importBooks([titled(1, "Arrakis"), titled(30, "Dune")])
      assert.deepStrictEqual(yield* idsOf("dune"), [30])
      assert.deepStrictEqual(yield* idsOf("arrakis"), [1])
      assert.deepStrictEqual(yield* search("arrakis"), { books: [titled(1, "Arrakis")], nextPageToken: "" })
    })
  )

  test(
    "finds and orders books as the definition does, in pages of any size",
    Effect.gen(function* () {
      const words = ["a", "ab", "abc", "b", "é", "e", "字", "ж"]
      /** One to four words, of which there are hundreds of combinations. */
      const text = (index: number) =>
        Array.from({ length: (index % 4) + 1 }, (_, place) => words[(index * (2 * place + 1) + place) % 8]).join(" ")
      const books = Array.from({ length: 300 }, (_, index) => titled(index + 1, text(index), text(index * 5 + 2)))
      yield* importBooks(books)
      const queries = words.flatMap((word) => [word, ...words.map((other) => `${word} ${other}`)])
      for (const [index, query] of queries.entries()) {
        const found: Array<number> = []
        let pageToken = ""
        do {
          const page = yield* search(query, { pageSize: 10 + index, pageToken })
          found.push(...page.books.map(({ id }) => id))
          pageToken = page.nextPageToken
        } while (pageToken !== "")
        assert.deepStrictEqual(found, expected(books, query), query)
      }
    })
  )

  if (system === "sqlite") return
  test(
    "uses the index from the moment of an import, also the first one",
    Effect.gen(function* () {
      const { transaction } = yield* Database
      const sql = yield* SqlClient.SqlClient
      const scans = Effect.map(
        sql<{ readonly scans: number }>`SELECT pg_stat_get_xact_numscans('books_words'::regclass) AS scans`,
        ([row]) => row!.scans
      )
      for (const first of [1, 2_001]) {
        yield* importBooks(Array.from({ length: 2_000 }, (_, index) => titled(first + index, `Book ${first + index}`)))
        const found = Effect.gen(function* () {
          const before = yield* scans
          assert.deepStrictEqual(yield* idsOf(`book ${first + 999}`), [first + 999])
          return (yield* scans) - before
        })
        // in one transaction, since each connection has its own counts
        assert.strictEqual(yield* transaction("test", found), 1)
      }
    })
  )
})

/** The ids of the books that have all words of a query, in the order of matches. */
const expected = (books: ReadonlyArray<Book>, query: string): ReadonlyArray<number> => {
  const words = foldWords(query)
  const folded = words.join(" ")
  return books
    .flatMap(({ authors, id, title }) => {
      const has = foldWords([title, ...authors].join(" "))
      const isMatch = words.every((word, index) =>
        index === words.length - 1 ? has.some((one) => one.startsWith(word)) : has.includes(word)
      )
      const foldedTitle = foldWords(title).join(" ")
      const titleMatch = foldedTitle === folded ? 0 : foldedTitle.startsWith(folded) ? 1 : 2
      return isMatch ? [{ id, rank: [titleMatch, Array.from(foldedTitle).length, id] as const }] : []
    })
    .toSorted(({ rank: one }, { rank: other }) => one[0] - other[0] || one[1] - other[1] || one[2] - other[2])
    .map(({ id }) => id)
}
