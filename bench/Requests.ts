/**
 * Requests of Recommendations, for load generators.
 */
import * as Load from "./Load.ts"

export const recommendPath = "/onlinebooks.recommendations.v1.RecommendationsService/Recommend"

/** The encoded request for a number of mysteries: `user_id` 1, `category` 1, `max_results`. */
export const recommendMessage = (books: number): Buffer => Buffer.of(0x08, 1, 0x10, 1, 0x18, books)

/** The gRPC frame of that request. */
export const recommend = (books: number): Buffer => Load.frame(recommendMessage(books))

/** Recommend of the first API. */
export const firstPath = "/Recommendations/Recommend"

/** The gRPC frame of a request of the first API for a number of mysteries, which are category 0 there. */
export const recommendFirst = (books: number): Buffer => Load.frame(Buffer.of(0x08, 1, 0x18, books))
