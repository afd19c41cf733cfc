import { strict } from "node:assert"
import { inspect } from "node:util"

import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Equal, Layer, Schema } from "effect"

import { Book } from "../../../src/domain/Book.ts"
import { Recommender } from "../../../src/domain/Recommender.ts"
import { Encoded } from "../../../src/layers/grpc/EncodedMessage.ts"
import * as GrpcService from "../../../src/layers/grpc/GrpcService.ts"
import * as V1 from "../../../src/recommendations/api/V1Api.ts"
import { book } from "../../domain/Books.ts"
import { Protos, RecommendationsService } from "../../integration/RecommendationsApi.ts"
import { arbitraryBooks, stored } from "./Books.ts"

/** What today's API answers when these books are recommended. */
const answer = (books: ReadonlyArray<Book>) =>
  Effect.gen(function* () {
    const { Recommend } = yield* V1.handlers
    return yield* Recommend({ userId: 0, category: 0, maxResults: 10 })
  }).pipe(Effect.provide(Layer.mock(Recommender, { recommend: () => Effect.succeed(books) })))

const isBook = Schema.is(Book)

describe("a stored book", () => {
  it.effect.prop("is the book that it was made from, however it is looked at", [arbitraryBooks], ([books]) =>
    Effect.sync(() => {
      for (const [index, book] of stored(books).entries()) {
        const original = books[index]!
        assert.deepStrictEqual(book, original)
        assert.deepStrictEqual({ ...book }, original)
        assert.deepStrictEqual(JSON.parse(JSON.stringify(book)), original)
        assert.deepStrictEqual(Object.keys(book).toSorted(), Object.keys(original).toSorted())
        assert.deepStrictEqual(Object.entries(book).toSorted(), Object.entries(original).toSorted())
        for (const key of ["id", "title", "authors", "year", "isbn10", "categories", "toString", "other"] as const) {
          assert.strictEqual(key in book, key in original, key)
          assert.strictEqual(Object.hasOwn(book, key), Object.hasOwn(original, key), key)
        }
        assert.strictEqual(isBook(book), isBook(original))
        assert.strictEqual(Equal.equals(book, original), Equal.equals({ ...original }, original))
      }
    })
  )

  it("is compared and printed by Node as the book that it was made from", () => {
    for (const original of [book(1), { ...book(2, "HORROR", "CLASSICS"), year: -720, isbn10: "080442957X" }]) {
      const [first] = stored([original])
      strict.deepEqual(first, original)
      strict.deepEqual(original, first)
      // by its keys in the order of the API, as books of the catalogue file are
      assert.strictEqual(inspect(first), inspect({ ...first }))
      assert.include(inspect(first), `title: '${original.title}'`)
      assert.strictEqual(inspect({ books: [first] }, { depth: 5 }), inspect({ books: [{ ...first }] }, { depth: 5 }))
      assert.strictEqual(String(first), String(original))
      assert.strictEqual(Object.getPrototypeOf(first), Object.prototype)
    }
  })

  it("cannot be changed", () => {
    const [first] = stored([book(1)])
    assert.throws(() => Object.assign(first!, { title: "other" }), TypeError)
    assert.throws(() => Reflect.apply(Object.defineProperty, Object, [first, "title", { value: "other" }]), TypeError)
    assert.deepStrictEqual(first, book(1))
  })

  it("has no year and no ISBN where there are none", () => {
    const [{ isbn10, year } = book(0)] = stored([book(1)])
    assert.deepStrictEqual([isbn10, year], [undefined, undefined])
  })
})

layer(Layer.orDie(Protos))("an answer of stored books", (it) => {
  it.effect.prop("is to its client what one of other books is", [arbitraryBooks], ([books]) =>
    Effect.gen(function* () {
      const { Recommend } = yield* GrpcService.load(RecommendationsService)
      const fast = yield* answer(stored(books))
      const slow = yield* answer(books)
      assert.instanceOf(fast, Encoded)
      assert.notInstanceOf(slow, Encoded)
      assert.deepStrictEqual(
        Recommend!.responseDeserialize(fast.bytes),
        Recommend!.responseDeserialize(Recommend!.responseSerialize(slow))
      )
    })
  )

  it.effect("is made of messages where some of its books are others", () =>
    Effect.gen(function* () {
      const books = [book(1), book(2, "HORROR")]
      const mixed = yield* answer([...stored(books.slice(0, 1)), ...books.slice(1)])
      assert.deepStrictEqual(mixed, yield* answer(books))
    })
  )
})
