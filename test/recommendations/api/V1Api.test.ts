import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"

import type { Query } from "../../../src/domain/Recommender.ts"
import type { RecommendRequest } from "../../../src/generated/v1/onlinebooks/recommendations/v1/RecommendRequest.ts"
import { RecommendationsService } from "../../../src/generated/v1/services.ts"
import { ErrorInfo } from "../../../src/layers/grpc/ErrorDetail.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as InMemory from "../../../src/layers/testing/InMemory.ts"
import * as V1Api from "../../../src/recommendations/api/V1Api.ts"
import * as RecordingRecommender from "./RecordingRecommender.ts"

/** A client of the API, whose recommender adds its queries to `queries`. */
const client = Effect.fnUntraced(function* (queries: Array<Query> = []) {
  const context = yield* Layer.build(
    V1Api.layer.pipe(InMemory.listen(), Layer.provide(RecordingRecommender.layer(queries)))
  )
  return yield* Effect.provideContext(GrpcClient.make(RecommendationsService), context)
})

describe("V1Api", () => {
  it.effect.each([
    {
      request: { userId: 3, category: 13, maxResults: 5 },
      query: { userId: 3, category: "HORROR", maxResults: 5, isPersonal: true }
    },
    // unset fields decode to 0
    {
      request: { userId: 0, category: 0, maxResults: 0 },
      query: { userId: 0, category: undefined, maxResults: undefined, isPersonal: true }
    },
    {
      request: { userId: -1, category: 14, maxResults: -1 },
      query: { userId: -1, category: "14", maxResults: -1, isPersonal: true }
    }
  ])("converts the request $request to a query", ({ query, request }) =>
    Effect.gen(function* () {
      const queries: Array<Query> = []
      const { Recommend } = yield* client(queries)
      yield* Recommend(request as RecommendRequest)
      assert.deepStrictEqual(queries, [query])
    })
  )

  it.effect("responds with the books in the order of the recommender", () =>
    Effect.gen(function* () {
      const { Recommend } = yield* client()
      assert.deepStrictEqual(yield* Recommend({ maxResults: 2 }), {
        books: [
          { id: 7, title: "Book 7", authors: ["Author 7"], isbn10: "", categories: [13, 1] },
          { id: 8, title: "Book 8", authors: ["Author 8"], year: -720, isbn10: "080442957X", categories: [1] }
        ]
      })
    })
  )

  it.effect("tells in a header that the reader's history is missing", () =>
    Effect.gen(function* () {
      const { Recommend } = yield* client()
      const headersOf = (userId: number) =>
        Effect.map(GrpcClient.withResponseMetadata(Recommend({ userId })), ([, { headers }]) =>
          headers.get("reader-history")
        )
      assert.deepStrictEqual(yield* headersOf(404), ["unavailable"])
      assert.deepStrictEqual(yield* headersOf(1), [])
    })
  )

  it.effect("lists categories with their counts", () =>
    Effect.gen(function* () {
      const { ListCategories } = yield* client()
      assert.deepStrictEqual(yield* ListCategories({}), {
        categories: [
          { category: 1, bookCount: 2 },
          { category: 13, bookCount: 1 }
        ]
      })
    })
  )

  it.effect("fails with the status of the recommender's error", () =>
    Effect.gen(function* () {
      const { Recommend } = yield* client()
      const { reason } = yield* Effect.flip(Recommend({ category: 99 } as unknown as RecommendRequest))
      assert.deepStrictEqual([reason._tag, reason.message], ["NotFound", "Category not found"])
      assert.deepStrictEqual(reason.details, [
        ErrorInfo({ reason: "CATEGORY_NOT_FOUND", domain: "onlinebooks", metadata: { category: "99" } })
      ])
    })
  )
})
