import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import type { Query } from "../../../src/domain/Recommender.ts"
import * as LegacyApi from "../../../src/recommendations/api/LegacyApi.ts"
import * as RecordingRecommender from "./RecordingRecommender.ts"

describe("LegacyApi", () => {
  it.effect.each([
    { request: { userId: 3, category: 0, maxResults: 5 }, query: { userId: 3, category: "MYSTERY", maxResults: 5 } },
    { request: { userId: 0, category: 2, maxResults: 0 }, query: { userId: 0, category: "SELF_HELP", maxResults: 0 } },
    { request: { userId: 0, category: 3, maxResults: 1 }, query: { userId: 0, category: "3", maxResults: 1 } }
  ])("converts the request $request to a query", ({ query, request }) =>
    Effect.gen(function* () {
      const queries: Array<Query> = []
      const { Recommend } = yield* Effect.provide(LegacyApi.handlers, RecordingRecommender.layer(queries))
      yield* Recommend(request as Parameters<typeof Recommend>[0])
      assert.deepStrictEqual(queries, [query])
    })
  )

  it.effect("responds with ids and titles", () =>
    Effect.gen(function* () {
      const { Recommend } = yield* Effect.provide(LegacyApi.handlers, RecordingRecommender.layer())
      assert.deepStrictEqual(yield* Recommend({ userId: 0, category: 0, maxResults: 2 }), {
        recommendations: [
          { id: 7, title: "Book 7" },
          { id: 8, title: "Book 8" }
        ]
      })
    })
  )
})
