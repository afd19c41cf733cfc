import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

import { BookCatalog } from "../../src/domain/BookCatalog.ts"
import * as Page from "../../src/domain/Page.ts"
import { encodedCatalog } from "../recommendations/catalog/Books.ts"
import { book, books } from "./Books.ts"

/** Books with the ids 3, 6, and so on. */
const everyThird = (count: number) => Array.from({ length: count }, (_, index) => book((index + 1) * 3))

const catalogOf = (ids: ReadonlyArray<number>) =>
  Effect.provide(BookCatalog, BookCatalog.layerMemory(ids.map((id) => book(id))))

const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

describe("BookCatalog", () => {
  it.effect.prop("finds each book by its id, and no other", [upTo(20)], ([count]) =>
    Effect.gen(function* () {
      const catalog = yield* Effect.provide(BookCatalog, BookCatalog.layerMemory(everyThird(count).toReversed()))
      for (let id = -1; id <= count * 3 + 3; id++) {
        const found = yield* Effect.result(catalog.book(id))
        if (id > 0 && id % 3 === 0 && id <= count * 3) assert.deepInclude(found, { success: book(id) })
        else assert.strictEqual(found._tag === "Failure" && found.failure._tag, "BookNotFound")
      }
    })
  )

  it.effect.prop("lists every book once, in pages in the order of ids", [upTo(50), upTo(20)], ([count, pageSize]) =>
    Effect.gen(function* () {
      const catalog = encodedCatalog(everyThird(count))
      const listed: Array<number> = []
      let pageToken = ""
      do {
        const page = yield* catalog.list({ pageSize: pageSize + 1, pageToken })
        listed.push(...page.books.map(({ id }) => id))
        assert.isAtMost(page.books.length, pageSize + 1)
        pageToken = page.nextPageToken
      } while (pageToken !== "")
      assert.deepStrictEqual(
        listed,
        everyThird(count).map(({ id }) => id)
      )
    })
  )

  it.effect("has 100 books in a page by default, and at most 1000", () =>
    Effect.gen(function* () {
      const catalog = encodedCatalog(books(1001))
      const sizeOf = (pageSize: number | undefined) =>
        Effect.map(catalog.list({ pageSize, pageToken: "" }), ({ books }) => books.length)
      assert.deepStrictEqual(yield* Effect.all([sizeOf(undefined), sizeOf(2_147_483_647)]), [100, 1000])
    })
  )

  it.effect("continues after a book that is gone", () =>
    Effect.gen(function* () {
      const { nextPageToken } = yield* (yield* catalogOf([1, 2, 3])).list({ pageSize: 2, pageToken: "" })
      const later = yield* catalogOf([1, 4, 7])
      const { books } = yield* later.list({ pageSize: 2, pageToken: nextPageToken })
      assert.deepStrictEqual(
        books.map(({ id }) => id),
        [4, 7]
      )
      const end = yield* (yield* catalogOf([1])).list({ pageSize: 2, pageToken: nextPageToken })
      assert.deepStrictEqual(end, { books: [], nextPageToken: "" })
    })
  )

  it.effect("reports every bad field of a query for a page", () =>
    Effect.gen(function* () {
      const catalog = yield* catalogOf([1])
      const error = yield* Effect.flip(
        catalog.list({ pageSize: -1, pageToken: Page.encodeToken({ kind: "other", maxima: [9] }, [1]) })
      )
      assert.deepStrictEqual(error._tag === "InvalidQuery" && error.violations.map(({ field }) => field), [
        "pageSize",
        "pageToken"
      ])
    })
  )

  it.effect("replaces all books in one step, and finishes with the books that an operation began with", () =>
    Effect.gen(function* () {
      const shelf = (id: number) => ({ size: 1, at: () => book(id) })
      const [catalog, replace] = BookCatalog.make({
        allBooks: shelf(1),
        byCategory: new Map([["MYSTERY", shelf(1)]])
      })
      const before = yield* Effect.all([catalog.allBooks, catalog.shelf("MYSTERY")])
      replace({ allBooks: shelf(2), byCategory: new Map([["HORROR", shelf(2)]]) })
      assert.deepStrictEqual(
        before.map(({ at }) => at(0).id),
        [1, 1]
      )
      assert.strictEqual((yield* catalog.allBooks).at(0).id, 2)
      assert.strictEqual((yield* catalog.shelf("HORROR")).at(0).id, 2)
      assert.strictEqual((yield* Effect.flip(catalog.shelf("MYSTERY")))._tag, "CategoryNotFound")
      assert.deepStrictEqual(yield* catalog.summaries, [{ category: "HORROR", bookCount: 1 }])
      assert.strictEqual((yield* catalog.book(2)).id, 2)
      assert.strictEqual((yield* Effect.flip(catalog.book(1)))._tag, "BookNotFound")
    })
  )
})
