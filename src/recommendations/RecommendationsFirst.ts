/**
 * The first API: the service without a package, which its clients still call.
 */
import { Effect } from "effect"

import { type Query, Recommender } from "../domain/Recommender.ts"
import type { RecommendationRequest__Output } from "../generated/first/RecommendationRequest.ts"
import { Recommendations } from "../generated/first/services.ts"
import * as GrpcServer from "../layers/grpc/GrpcServer.ts"
import * as Sampling from "../layers/telemetry/Sampling.ts"
import * as Categories from "./Categories.ts"
import { statuses } from "./DomainStatus.ts"

export const handlers = Effect.gen(function* () {
  const recommender = yield* Recommender
  return {
    Recommend: (request: RecommendationRequest__Output) =>
      recommender.recommend(toQuery(request)).pipe(
        Sampling.withSpan("Recommender.recommend"),
        Effect.map((books) => ({ recommendations: books.map(({ id, title }) => ({ id, title })) }))
      )
  }
})

/** Serves the API. */
export const layer = GrpcServer.serve(Recommendations, handlers, statuses)

// max_results must be set here: a 0 is out of range, as it always was
const toQuery = ({ category, maxResults, userId }: RecommendationRequest__Output): Query => ({
  userId,
  category: Categories.fromFirst(category),
  maxResults
})
