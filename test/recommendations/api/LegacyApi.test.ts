import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"

import type { Query } from "../../../src/domain/Recommender.ts"
import type { RecommendationRequest } from "../../../src/generated/first/RecommendationRequest.ts"
import { Recommendations } from "../../../src/generated/first/services.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as InMemory from "../../../src/layers/testing/InMemory.ts"
import * as LegacyApi from "../../../src/recommendations/api/LegacyApi.ts"
import * as RecordingRecommender from "./RecordingRecommender.ts"

/** A client of the API, whose recommender adds its queries to `queries`. */
const client = Effect.fnUntraced(function* (queries: Array<Query> = []) {
  const context = yield* Layer.build(
    LegacyApi.layer.pipe(InMemory.listen(), Layer.provide(RecordingRecommender.layer(queries)))
  )
  return yield* Effect.provideContext(GrpcClient.make(Recommendations), context)
})

describe("LegacyApi", () => {
  it.effect.each([
    { request: { userId: 3, category: 0, maxResults: 5 }, query: { userId: 3, category: "MYSTERY", maxResults: 5 } },
    { request: { userId: 0, category: 2, maxResults: 0 }, query: { userId: 0, category: "SELF_HELP", maxResults: 0 } },
    { request: { userId: 0, category: 3, maxResults: 1 }, query: { userId: 0, category: "3", maxResults: 1 } }
  ])("converts the request $request to a query", ({ query, request }) =>
    Effect.gen(function* () {
      const queries: Array<Query> = []
      const { Recommend } = yield* client(queries)
      yield* Recommend(request as RecommendationRequest)
      assert.deepStrictEqual(queries, [{ ...query, isPersonal: false }])
    })
  )

  it.effect("responds with ids and titles", () =>
    Effect.gen(function* () {
      const { Recommend } = yield* client()
      assert.deepStrictEqual(yield* Recommend({ userId: 0, category: 0, maxResults: 2 }), {
        recommendations: [
          { id: 7, title: "Book 7" },
          { id: 8, title: "Book 8" }
        ]
      })
    })
  )
})
