import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import { BookCatalog } from "../../../src/domain/BookCatalog.ts"
import { categories } from "../../../src/domain/Category.ts"
import { book } from "../../domain/Books.ts"
import { encodedCatalog, plainBooks } from "./Books.ts"

describe("EncodedCatalog", () => {
  it.effect.each([
    { what: "no books", books: [] },
    { what: "one book", books: [book(1)] },
    {
      what: "10,000 books",
      books: Array.from({ length: 10_000 }, (_, index) =>
        book(index + 1, categories[index % 13], categories[(index * 7 + 3) % 13]!)
      ).map((book) => ({ ...book, categories: [...new Set(book.categories)] as never }))
    },
    {
      what: "books larger than its first buffer",
      books: [book(1), { ...book(2), title: "é".repeat(50_000) }, book(3), { ...book(4), title: "a".repeat(100_000) }]
    }
  ])("with $what equals the catalogue of plain books", ({ books }) =>
    Effect.gen(function* () {
      const catalog = encodedCatalog(books)
      const expected = yield* Effect.provide(BookCatalog, BookCatalog.layerMemory(books))
      assert.deepStrictEqual(plainBooks(yield* catalog.allBooks), plainBooks(yield* expected.allBooks))
      const summaries = yield* catalog.summaries
      assert.deepStrictEqual(summaries, yield* expected.summaries)
      for (const { category } of summaries) {
        assert.deepStrictEqual(plainBooks(yield* catalog.shelf(category)), plainBooks(yield* expected.shelf(category)))
      }
    })
  )
})
