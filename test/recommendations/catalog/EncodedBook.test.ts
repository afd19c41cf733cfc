import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"

import { Book } from "../../../src/domain/Book.ts"
import { Recommender } from "../../../src/domain/Recommender.ts"
import { RecommendationsService } from "../../../src/generated/v1/services.ts"
import * as EmbeddedProtos from "../../../src/layers/grpc/EmbeddedProtos.ts"
import { Encoded } from "../../../src/layers/grpc/EncodedMessage.ts"
import * as V1Api from "../../../src/recommendations/api/V1Api.ts"
import { book } from "../../domain/Books.ts"
import { arbitraryBooks, encoded, plain } from "./Books.ts"

/** The response of the current API when these books are recommended. */
const respond = (books: ReadonlyArray<Book>) =>
  Effect.gen(function* () {
    const { Recommend } = yield* V1Api.handlers
    return yield* Recommend({ userId: 0, category: 0, maxResults: 10 })
  }).pipe(Effect.provide(Layer.mock(Recommender, { recommend: () => Effect.succeed(books) })))

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

describe("a response of encoded books", () => {
  it.effect.prop("decodes to the same message as a response of plain books", [arbitraryBooks], ([books]) =>
    Effect.gen(function* () {
      const { encode, decode } = EmbeddedProtos.methods(RecommendationsService)["Recommend"]!.response
      const fast = yield* respond(encoded(books))
      const slow = yield* respond(books)
      assert.instanceOf(fast, Encoded)
      assert.notInstanceOf(slow, Encoded)
      assert.deepStrictEqual(decode(fast.bytes), decode(encode(slow)))
    })
  )

  it.effect("falls back to messages if one of the books is plain", () =>
    Effect.gen(function* () {
      const books = [book(1), book(2, "HORROR")]
      const mixed = yield* respond([...encoded(books.slice(0, 1)), ...books.slice(1)])
      assert.deepStrictEqual(mixed, yield* respond(books))
    })
  )
})
