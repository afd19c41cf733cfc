import { NodeServices } from "@effect/platform-node"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"

import type { Book } from "../../src/domain/Book.ts"
import { Recommender } from "../../src/domain/Recommender.ts"
import type {
  RecommendationsServiceDefinition,
  RecommendationsServiceHandlers
} from "../../src/generated/v1/onlinebooks/recommendations/v1/RecommendationsService.ts"
import { Encoded } from "../../src/layers/Encoded.ts"
import * as GrpcService from "../../src/layers/GrpcService.ts"
import { ProjectRoot } from "../../src/layers/ProjectRoot.ts"
import * as V1 from "../../src/recommendations/RecommendationsV1.ts"
import { book } from "../domain/Books.ts"
import { arbitraryBooks, plain, stored } from "./Books.ts"

const RecommendationsService = GrpcService.make<RecommendationsServiceDefinition, RecommendationsServiceHandlers>()({
  name: "onlinebooks.recommendations.v1.RecommendationsService",
  file: "onlinebooks/recommendations/v1/recommendations.proto"
})

const Protos = GrpcService.ProtoFiles.layer("proto").pipe(
  Layer.provide(ProjectRoot.layer(import.meta.url, "proto/recommendations.proto")),
  Layer.provide(NodeServices.layer)
)

/** What today's API answers when these books are recommended. */
const answer = (books: ReadonlyArray<Book>) =>
  Effect.gen(function* () {
    const { Recommend } = yield* V1.handlers
    return yield* Recommend({ userId: 0, category: 0, maxResults: 10 })
  }).pipe(Effect.provide(Layer.mock(Recommender, { recommend: () => Effect.succeed(books) })))

describe("a stored book", () => {
  it.effect.prop("has the fields that it was made from", [arbitraryBooks], ([books]) =>
    Effect.sync(() => assert.deepStrictEqual(stored(books).map(plain), books))
  )

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
