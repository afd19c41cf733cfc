import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Random, Schema } from "effect"

import type { Book } from "../../src/domain/Book.ts"
import { BookCatalog, CatalogUnavailable, CategoryNotFound, type Shelf } from "../../src/domain/BookCatalog.ts"
import { type History, Readers } from "../../src/domain/Readers.ts"
import { draw as drawWith, type Query, Recommender } from "../../src/domain/Recommender.ts"
import { book, books } from "./Books.ts"

const shelfOf = (books: ReadonlyArray<Book>): Shelf => ({ size: books.length, at: (position) => books[position]! })

const draw = (shelf: Shelf, count: number, excluded: ReadonlyArray<number> = []) =>
  Effect.map(Random.Random, (random) => drawWith(shelf, count, random, new Set(excluded)))

const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

describe("draw", () => {
  it.effect.prop(
    "draws as many distinct books of the shelf as requested, or all",
    [upTo(200), upTo(250)],
    ([size, count]) =>
      Effect.gen(function* () {
        const all = books(size)
        const drawn = yield* draw(shelfOf(all), count)
        assert.strictEqual(drawn.length, Math.min(size, count))
        assert.strictEqual(new Set(drawn).size, drawn.length)
        for (const one of drawn) assert.include(all, one)
      })
  )

  it.effect("can draw every book", () =>
    Effect.gen(function* () {
      const seen = new Set<number>()
      for (let round = 0; round < 200; round++) {
        for (const { id } of yield* draw(shelfOf(books(30)), 3)) seen.add(id)
      }
      assert.strictEqual(seen.size, 30)
    }).pipe(Random.withSeed("every book"))
  )

  // There are 20 ways to draw two of five books in order. With 19 degrees of freedom, chi-square exceeds 43.8 with p = 0.001; the
  // seed is fixed.
  it.effect("makes every choice in every order equally likely", () =>
    Effect.gen(function* () {
      const rounds = 20_000
      const counts = new Map<string, number>()
      const shelf = shelfOf(books(5))
      for (let round = 0; round < rounds; round++) {
        const key = (yield* draw(shelf, 2)).map(({ id }) => id).join()
        counts.set(key, (counts.get(key) ?? 0) + 1)
      }
      const expected = rounds / 20
      const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
      assert.strictEqual(counts.size, 20)
      assert.isBelow(chiSquare, 43.8)
    }).pipe(Random.withSeed("uniform"))
  )

  it.effect.prop(
    "draws none of the excluded books, and all others if as many are requested",
    [upTo(100), Schema.Array(upTo(100))],
    ([size, excluded]) =>
      Effect.gen(function* () {
        const drawn = yield* draw(shelfOf(books(size)), size, excluded)
        const expected = books(size).filter(({ id }) => !excluded.includes(id))
        assert.sameDeepMembers([...drawn], [...expected])
      })
  )

  it.effect("makes every choice of the other books equally likely", () =>
    Effect.gen(function* () {
      const rounds = 20_000
      const counts = new Map<string, number>()
      const shelf = shelfOf(books(8))
      for (let round = 0; round < rounds; round++) {
        const key = (yield* draw(shelf, 2, [1, 4, 8, 9])).map(({ id }) => id).join()
        counts.set(key, (counts.get(key) ?? 0) + 1)
      }
      const expected = rounds / 20
      const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
      assert.strictEqual(counts.size, 20)
      assert.isBelow(chiSquare, 43.8)
    }).pipe(Random.withSeed("uniform without the excluded"))
  )

  it.effect("reads at most the excluded books besides those that it draws", () =>
    Effect.gen(function* () {
      let reads = 0
      const shelf: Shelf = {
        size: 150,
        at: (position) => {
          reads++
          return book(position + 1)
        }
      }
      const excluded = Array.from({ length: 50 }, (_, index) => index + 1)
      assert.strictEqual((yield* draw(shelf, 90, excluded)).length, 90)
      assert.isAtMost(reads, 140)
    })
  )

  it.effect("reads only the books that it draws, whatever the size of the shelf", () =>
    Effect.gen(function* () {
      let reads = 0
      const shelf: Shelf = {
        size: 2 ** 40,
        at: (position) => {
          reads++
          return book(position)
        }
      }
      const drawn = yield* draw(shelf, 100)
      assert.strictEqual(reads, 100)
      assert.strictEqual(new Set(drawn.map(({ id }) => id)).size, 100)
    })
  )

  it.effect("draws the same books for the same seed", () =>
    Effect.gen(function* () {
      const once = draw(shelfOf(books(1000)), 10)
      const first = yield* Random.withSeed(once, "seed")
      assert.deepStrictEqual(yield* Random.withSeed(once, "seed"), first)
      assert.notDeepEqual(yield* Random.withSeed(once, "another"), first)
    })
  )
})

/** Asks no reader's history but that of readers 1 and 2. */
const histories = Layer.mock(Readers, {
  history: (userId): Effect.Effect<History> =>
    userId === 1
      ? Effect.succeed({ excluded: new Set([1, 3, 99]), source: "current" })
      : userId === 2
        ? Effect.succeed({ excluded: new Set(), source: "unavailable" })
        : Effect.die(`unexpected reader ${userId}`)
})

const withCatalog = (books: ReadonlyArray<Book>) =>
  Effect.provide(Recommender.layer.pipe(Layer.provide([BookCatalog.layerMemory(books), histories])))

const recommendation = (query: Partial<Query>) =>
  Effect.flatMap(Recommender, (recommender) =>
    recommender.recommend({ userId: 0, category: undefined, maxResults: undefined, isPersonal: true, ...query })
  )

const recommend = (query: Partial<Query>) => Effect.map(recommendation(query), ({ books }) => books)

describe("Recommender", () => {
  it.effect("recommends 10 books if the query does not say how many", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* recommend({})).length, 10)
    }).pipe(withCatalog(books(50)))
  )

  it.effect("recommends at most 100 books", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* recommend({ maxResults: 100 })).length, 100)
      assert.strictEqual((yield* recommend({ maxResults: 101 })).length, 100)
      assert.strictEqual((yield* recommend({ maxResults: 2_147_483_647 })).length, 100)
    }).pipe(withCatalog(books(150)))
  )

  it.effect("recommends all books of a category if more are requested", () =>
    Effect.gen(function* () {
      const drawn = yield* recommend({ category: "HORROR", maxResults: 5 })
      assert.sameMembers(
        drawn.map(({ id }) => id),
        [2, 3]
      )
    }).pipe(withCatalog([book(1, "MYSTERY"), book(2, "HORROR"), book(3, "MYSTERY", "HORROR")]))
  )

  it.effect("draws a book of several categories at most once from all books", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* recommend({ maxResults: 9 })).length, 2)
    }).pipe(withCatalog([book(1, "MYSTERY", "HORROR", "THRILLER"), book(2, "HORROR")]))
  )

  it.effect("leaves out the books of the reader's history", () =>
    Effect.gen(function* () {
      const { books, history } = yield* recommendation({ userId: 1 })
      assert.sameMembers(
        books.map(({ id }) => id),
        [2, 4]
      )
      assert.strictEqual(history, "current")
    }).pipe(withCatalog(books(4)))
  )

  it.effect("leaves out no books if the query is not personal, or for a visitor, without asking for a history", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* recommend({ userId: 1, isPersonal: false })).length, 4)
      assert.strictEqual((yield* recommend({ userId: 0 })).length, 4)
    }).pipe(withCatalog(books(4)))
  )

  it.effect("tells the state of the history", () =>
    Effect.gen(function* () {
      const { books, history } = yield* recommendation({ userId: 2 })
      assert.strictEqual(books.length, 4)
      assert.strictEqual(history, "unavailable")
    }).pipe(withCatalog(books(4)))
  )

  it.effect("reports every field that is out of range, before it looks up the category", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(recommend({ userId: -1, maxResults: 0, category: "COOKING" }))
      assert.deepStrictEqual(error._tag === "InvalidQuery" && error.violations, [
        { field: "userId", description: "expected 0 (a visitor who has not signed in) or above" },
        { field: "maxResults", description: "expected 1 or above" }
      ])
    }).pipe(withCatalog(books(3)))
  )

  it.effect("fails with CategoryNotFound for a category that is unknown, misspelt or without books", () =>
    Effect.gen(function* () {
      for (const category of ["COOKING", "mystery", "", "HORROR"]) {
        assert.deepStrictEqual(yield* Effect.flip(recommend({ category })), new CategoryNotFound({ category }))
      }
    }).pipe(withCatalog(books(3, "MYSTERY")))
  )

  it.effect("fails with CatalogUnavailable if the catalogue cannot be reached", () =>
    Effect.gen(function* () {
      const unavailable = new CatalogUnavailable({ cause: "down" })
      const Down = Layer.mock(BookCatalog, { allBooks: Effect.fail(unavailable), summaries: Effect.fail(unavailable) })
      const error = yield* Effect.flip(
        Effect.provide(recommend({}), Recommender.layer.pipe(Layer.provide([Down, histories])))
      )
      assert.strictEqual(error, unavailable)
    })
  )

  it.effect("lists the categories that have books, in the order of the menu, with their counts", () =>
    Effect.gen(function* () {
      const { categories } = yield* Recommender
      assert.deepStrictEqual(yield* categories, [
        { category: "MYSTERY", bookCount: 1 },
        { category: "THRILLER", bookCount: 1 },
        { category: "HORROR", bookCount: 2 }
      ])
    }).pipe(withCatalog([book(1, "HORROR"), book(2, "HORROR", "THRILLER"), book(3, "MYSTERY")]))
  )
})
