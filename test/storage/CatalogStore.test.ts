import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Option, type Scope, Stream } from "effect"
import { SqlClient } from "effect/sql"

import type { Book } from "../../src/domain/Book.ts"
import { CatalogStore } from "../../src/recommendations/catalog/CatalogStore.ts"
import { book, books } from "../domain/Books.ts"
import { plainBooks } from "../recommendations/catalog/Books.ts"
import { catalogFileOf, connectCatalog, csvOf, fileOf } from "./CatalogFiles.ts"
import { describeStorage, type Provided } from "./StorageTest.ts"

/** The current catalogue: its id and its books. */
const load = Effect.gen(function* () {
  const { catalog, version } = Option.getOrThrow(yield* (yield* CatalogStore).load)
  return { catalogId: version.catalogId, books: plainBooks(catalog.toShelves().allBooks) }
})

const importFile = (books: ReadonlyArray<Book>) =>
  Effect.gen(function* () {
    return yield* (yield* CatalogStore).importFile(yield* catalogFileOf(books))
  })

const importOnce = (books: ReadonlyArray<Book>) =>
  Effect.gen(function* () {
    return yield* (yield* CatalogStore).importOnce(yield* catalogFileOf(books))
  })

const count = (table: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql<{ readonly count: number }>`SELECT COUNT(*) AS count FROM ${sql(table)}`, ([row]) => row!.count)
  )

/** Books of every kind, in another order than that of their ids. */
const someBooks: ReadonlyArray<Book> = [
  { id: 2_147_483_647, title: 'Say "no", they said', authors: ["Ann A", "Bob B"], categories: ["HORROR", "MYSTERY"] },
  {
    id: 7,
    title: "Les Misérables",
    authors: ["Victor Hugo"],
    year: 1862,
    isbn10: "014044430X",
    categories: ["CLASSICS"]
  },
  { id: 1, title: "Η Οδύσσεια 😀", authors: ["Όμηρος"], year: -720, categories: ["CLASSICS"] }
]

describeStorage("CatalogStore", ({ fresh, hasNotifications }) => {
  const test = <E>(title: string, effect: Effect.Effect<void, E, Provided | CatalogStore | Scope.Scope>) =>
    it.live(title, () =>
      Effect.scoped(
        Effect.gen(function* () {
          yield* Effect.provide(effect, connectCatalog(yield* fresh))
        })
      )
    )

  test(
    "has no catalogue before the first import",
    Effect.gen(function* () {
      const { current, load } = yield* CatalogStore
      assert.isTrue(Option.isNone(yield* current))
      assert.isTrue(Option.isNone(yield* load))
    })
  )

  test(
    "loads the imported books in the order of their ids",
    Effect.gen(function* () {
      const { bookCount, catalogId, sha256 } = yield* importFile(someBooks)
      assert.strictEqual(bookCount, 3)
      assert.deepStrictEqual(yield* load, { catalogId, books: someBooks.toReversed() })
      const current = Option.getOrThrow(yield* (yield* CatalogStore).current)
      assert.deepStrictEqual(current, { catalogId, sha256, importedAt: current.importedAt })
      assert.isAbove(current.importedAt, 0)
    })
  )

  test(
    "imports and loads more books than fit into a batch",
    Effect.gen(function* () {
      yield* importFile(books(12_345))
      assert.deepStrictEqual((yield* load).books, books(12_345))
    })
  )

  test(
    "replaces changed books, and keeps those that are gone for feedback",
    Effect.gen(function* () {
      yield* importFile(books(300))
      const changed = { ...book(2, "HORROR"), title: "Another title", year: 2000 }
      const { catalogId } = yield* importFile([changed, book(999)])
      assert.deepStrictEqual(yield* load, { catalogId, books: [changed, book(999)] })
      assert.strictEqual(yield* count("books"), 301)
    })
  )

  test(
    "does not import a file again, even if it is not the last one",
    Effect.gen(function* () {
      assert.isTrue(Option.isSome(yield* importOnce(books(3))))
      const { catalogId } = yield* importFile(books(5))
      assert.isTrue(Option.isNone(yield* importOnce(books(3))))
      assert.isTrue(Option.isNone(yield* importOnce(books(5))))
      assert.deepStrictEqual(yield* load, { catalogId, books: books(5) })
    })
  )

  test(
    "imports an older file when it is told to",
    Effect.gen(function* () {
      const first = yield* importFile(books(3))
      yield* importFile(books(5))
      const { catalogId, sha256 } = yield* importFile(books(3))
      assert.strictEqual(sha256, first.sha256)
      assert.isAbove(catalogId, first.catalogId)
      assert.deepStrictEqual(yield* load, { catalogId, books: books(3) })
    })
  )

  test(
    "imports nothing from a file that turns out to be invalid after many books",
    Effect.gen(function* () {
      const store = yield* CatalogStore
      const { catalogId } = yield* importFile(books(3))
      const file = yield* fileOf(
        `${csvOf(books(5000).map((book) => ({ ...book, title: "Another title" })))}x,A,B,,,HORROR\n`
      )
      for (const attempt of [Effect.asVoid(store.importFile(file)), Effect.asVoid(store.importOnce(file))]) {
        const error = yield* Effect.flip(attempt)
        assert.match(
          error.message,
          /^FILE=".*": expected a catalogue, but 1 line is invalid\n {2}line 5002: id: expected/
        )
      }
      assert.deepStrictEqual(yield* load, { catalogId, books: books(3) })
      assert.deepStrictEqual([yield* count("books"), yield* count("catalogs")], [3, 1])
    })
  )

  it.live("imports a file once, when several processes start together", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        const start = Effect.provide(Effect.scoped(importOnce(books(500))), connectCatalog(url))
        const imported = yield* Effect.all([start, start, start, start], { concurrency: "unbounded" })
        assert.strictEqual(imported.filter(Option.isSome).length, 1)
        assert.strictEqual(yield* Effect.provide(count("catalogs"), connectCatalog(url)), 1)
      })
    )
  )

  it.live("loads one catalogue as a whole, while others are imported", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        /** The catalogue of a number: it tells its size, and so does each of its books. */
        const numbered = (number: number) =>
          books(2_000 + number).map((book) => ({ ...book, title: `${2_000 + number} books` }))
        const connected = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, connectCatalog(url))
        yield* connected(importFile(numbered(0)))
        const importing = yield* Effect.forkChild(
          connected(Effect.forEach([1, 2, 3, 4, 5], (number) => importFile(numbered(number)), { discard: true }))
        )
        const loading = Effect.gen(function* () {
          let size = 0
          while (size < 2_005) {
            const { books } = yield* load
            size = books.length
            assert.deepStrictEqual([...new Set(books.map(({ title }) => title))], [`${size} books`])
          }
        })
        yield* connected(loading)
        yield* Fiber.join(importing)
      })
    )
  )

  if (hasNotifications) {
    test(
      "notifies other processes of an import",
      Effect.gen(function* () {
        const { notifications } = yield* CatalogStore
        const listening = yield* Deferred.make<void>()
        const fiber = yield* notifications.pipe(
          Stream.tap(() => Deferred.succeed(listening, undefined)),
          Stream.take(2),
          Stream.runDrain,
          Effect.forkChild
        )
        yield* Deferred.await(listening)
        yield* importFile(books(1))
        yield* Fiber.join(fiber)
      })
    )
  }
})
