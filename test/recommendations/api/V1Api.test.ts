import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import type { Query } from "../../../src/domain/Recommender.ts"
import { RecommendationsService } from "../../../src/generated/v1/services.ts"
import * as EmbeddedProtos from "../../../src/layers/grpc/EmbeddedProtos.ts"
import * as V1Api from "../../../src/recommendations/api/V1Api.ts"
import * as RecordingRecommender from "./RecordingRecommender.ts"

describe("V1Api", () => {
  it.effect.each([
    { request: { userId: 3, category: 13, maxResults: 5 }, query: { userId: 3, category: "HORROR", maxResults: 5 } },
    // unset fields decode to 0
    {
      request: { userId: 0, category: 0, maxResults: 0 },
      query: { userId: 0, category: undefined, maxResults: undefined }
    },
    { request: { userId: -1, category: 14, maxResults: -1 }, query: { userId: -1, category: "14", maxResults: -1 } }
  ])("converts the request $request to a query", ({ query, request }) =>
    Effect.gen(function* () {
      const queries: Array<Query> = []
      const { Recommend } = yield* Effect.provide(V1Api.handlers, RecordingRecommender.layer(queries))
      yield* Recommend(request as Parameters<typeof Recommend>[0])
      assert.deepStrictEqual(queries, [query])
    })
  )

  it.effect("responds with the books in the order of the recommender", () =>
    Effect.gen(function* () {
      const { Recommend } = yield* Effect.provide(V1Api.handlers, RecordingRecommender.layer())
      const { bytes } = yield* Recommend({ userId: 0, category: 0, maxResults: 2 })
      const { decode } = EmbeddedProtos.methods(RecommendationsService)["Recommend"]!.response
      assert.deepStrictEqual(decode(bytes), {
        books: [
          { id: 7, title: "Book 7", authors: ["Author 7"], isbn10: "", categories: [13, 1] },
          { id: 8, title: "Book 8", authors: ["Author 8"], year: -720, isbn10: "080442957X", categories: [1] }
        ]
      })
    })
  )

  it.effect("lists categories with their counts", () =>
    Effect.gen(function* () {
      const { ListCategories } = yield* Effect.provide(V1Api.handlers, RecordingRecommender.layer())
      assert.deepStrictEqual(yield* ListCategories(), {
        categories: [
          { category: 1, bookCount: 2 },
          { category: 13, bookCount: 1 }
        ]
      })
    })
  )
})
