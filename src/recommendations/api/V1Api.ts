/**
 * The current API, onlinebooks.recommendations.v1 (proto/onlinebooks/recommendations/v1).
 */
import { Effect } from "effect"

import { type Query, Recommender } from "../../domain/Recommender.ts"
import type { RecommendRequest__Output } from "../../generated/v1/onlinebooks/recommendations/v1/RecommendRequest.ts"
import { RecommendationsService } from "../../generated/v1/services.ts"
import * as GrpcServer from "../../layers/grpc/GrpcServer.ts"
import * as TraceContext from "../../layers/telemetry/TraceContext.ts"
import { EncodedBook } from "../catalog/EncodedCatalog.ts"
import { categoryByNumber, numberByCategory } from "../categoryNumbers.ts"
import { statuses } from "./statusTable.ts"

/** Serves the API. */
export const layer = GrpcServer.serve(
  RecommendationsService,
  Effect.gen(function* () {
    const recommender = yield* Recommender
    return {
      Recommend: (request) =>
        Effect.map(
          TraceContext.withSpan(recommender.recommend(toQuery(request)), "Recommender.recommend"),
          EncodedBook.response
        ),
      ListCategories: () =>
        Effect.map(recommender.categories, (summaries) => ({
          categories: summaries.map(({ bookCount, category }) => ({
            category: numberByCategory.get(category)!,
            bookCount
          }))
        }))
    }
  }),
  statuses
)

const toQuery = ({ category, maxResults, userId }: RecommendRequest__Output): Query => ({
  userId,
  // 0 is BOOK_CATEGORY_UNSPECIFIED; unknown number: the domain rejects it as CategoryNotFound with the number as name
  category: category === 0 ? undefined : (categoryByNumber.get(category) ?? String(category)),
  // an unset field decodes to 0
  maxResults: maxResults === 0 ? undefined : maxResults
})
