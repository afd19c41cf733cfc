import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

import { Book } from "../../../src/domain/Book.ts"
import { RecommendationsService } from "../../../src/generated/v1/services.ts"
import * as EmbeddedProtos from "../../../src/layers/grpc/EmbeddedProtos.ts"
import { EncodedBook } from "../../../src/recommendations/catalog/EncodedBook.ts"
import { numberByCategory } from "../../../src/recommendations/categoryNumbers.ts"
import { book } from "../../domain/Books.ts"
import { arbitraryBooks, encoded, plain } from "./Books.ts"

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
