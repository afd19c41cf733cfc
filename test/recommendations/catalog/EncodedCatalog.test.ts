import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

import { Book } from "../../../src/domain/Book.ts"
import { BookCatalog } from "../../../src/domain/BookCatalog.ts"
import { categories } from "../../../src/domain/Category.ts"
import { RecommendationsService } from "../../../src/generated/v1/services.ts"
import * as EmbeddedProtos from "../../../src/layers/grpc/EmbeddedProtos.ts"
import { EncodedBook } from "../../../src/recommendations/catalog/EncodedCatalog.ts"
import { numberByCategory } from "../../../src/recommendations/categoryNumbers.ts"
import { book } from "../../domain/Books.ts"
import { arbitraryBooks, encoded, encodedCatalog, plain, plainBooks } from "./Books.ts"

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

const isBook = Schema.is(Book)

describe("EncodedBook", () => {
  it.effect.prop("has the fields of the book that was encoded", [arbitraryBooks], ([books]) =>
    Effect.sync(() => {
      assert.deepStrictEqual(encoded(books).map(plain), books)
      for (const [index, book] of encoded(books).entries()) {
        assert.strictEqual(isBook(plain(book)), isBook(books[index]))
      }
    })
  )

  it("has no year and no ISBN if they are unknown", () => {
    const [{ isbn10, year } = book(0)] = encoded([book(1)])
    assert.deepStrictEqual([isbn10, year], [undefined, undefined])
  })

  it("has a negative year", () => {
    assert.strictEqual(encoded([{ ...book(1), year: -720 }])[0]?.year, -720)
  })
})

describe("a response", () => {
  it.effect.prop("decodes to the same message as one that protobufjs encodes", [arbitraryBooks], ([books]) =>
    Effect.sync(() => {
      const { decode, encode } = EmbeddedProtos.methods(RecommendationsService)["Recommend"]!.response
      const message = {
        books: books.map((book) => ({
          ...book,
          categories: book.categories.map((category) => numberByCategory.get(category))
        }))
      }
      const expected = decode(encode(message))
      const responses = [books, encoded(books), [...encoded(books.slice(0, 1)), ...books.slice(1)]]
      for (const response of responses.map(EncodedBook.response)) {
        assert.deepStrictEqual(decode(response.bytes), expected)
      }
    })
  )
})
