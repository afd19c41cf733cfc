/**
 * The current API, onlinebooks.recommendations.v1 (proto/onlinebooks/recommendations/v1).
 */
import { Effect } from "effect"

import { type Query, type Recommendation, Recommender } from "../../domain/Recommender.ts"
import type { RecommendRequest__Output } from "../../generated/v1/onlinebooks/recommendations/v1/RecommendRequest.ts"
import { RecommendationsService } from "../../generated/v1/services.ts"
import { sendHeader } from "../../layers/grpc/GrpcCall.ts"
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
        Effect.flatMap(
          TraceContext.withSpan(recommender.recommend(toQuery(request)), "Recommender.recommend"),
          respond
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

/** The header `reader-history` tells that the latest feedback of the reader may be missing: `cached` or `unavailable`. */
const respond = ({ books, history }: Recommendation) => {
  const response = EncodedBook.response(books)
  return history === "current" ? Effect.succeed(response) : Effect.as(sendHeader("reader-history", history), response)
}

const toQuery = ({ category, maxResults, userId }: RecommendRequest__Output): Query => ({
  userId,
  // 0 is BOOK_CATEGORY_UNSPECIFIED; unknown number: the domain rejects it as CategoryNotFound with the number as name
  category: category === 0 ? undefined : (categoryByNumber.get(category) ?? String(category)),
  // an unset field decodes to 0
  maxResults: maxResults === 0 ? undefined : maxResults,
  isPersonal: true
})
