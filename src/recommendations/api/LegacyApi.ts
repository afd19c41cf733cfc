/**
 * The first API, `/Recommendations/Recommend`: frozen, but still in use (proto/recommendations.proto).
 */
import { Effect } from "effect"

import type { Category } from "../../domain/Category.ts"
import { type Query, Recommender } from "../../domain/Recommender.ts"
import { BookCategory } from "../../generated/first/BookCategory.ts"
import type { RecommendationRequest__Output } from "../../generated/first/RecommendationRequest.ts"
import { Recommendations } from "../../generated/first/services.ts"
import * as GrpcServer from "../../layers/grpc/GrpcServer.ts"
import * as TraceContext from "../../layers/telemetry/TraceContext.ts"
import { statuses } from "./statusTable.ts"

/** Serves the API. */
export const layer = GrpcServer.serve(
  Recommendations,
  Effect.gen(function* () {
    const recommender = yield* Recommender
    return {
      Recommend: (request) =>
        Effect.map(
          TraceContext.withSpan(recommender.recommend(toQuery(request)), "Recommender.recommend"),
          ({ books }) => ({
            recommendations: books.map(({ id, title }) => ({ id, title }))
          })
        )
    }
  }),
  statuses
)

const categories = new Map<number, keyof typeof BookCategory & Category>([
  [BookCategory.MYSTERY, "MYSTERY"],
  [BookCategory.SCIENCE_FICTION, "SCIENCE_FICTION"],
  [BookCategory.SELF_HELP, "SELF_HELP"]
])

const toQuery = ({ category, maxResults, userId }: RecommendationRequest__Output): Query => ({
  userId,
  // unknown number: the domain rejects it as CategoryNotFound with the number as name
  category: categories.get(category) ?? String(category),
  // required in this API: an unset field decodes to 0, which the domain rejects
  maxResults,
  isPersonal: false
})
