/**
 * What is asked of Recommendations.
 */
import * as Load from "./Load.ts"

export const recommendPath = "/onlinebooks.recommendations.v1.RecommendationsService/Recommend"

/** A request for so many mysteries: `user_id` 1, `category` 1, `max_results`. */
export const recommendMessage = (books: number): Buffer => Buffer.of(0x08, 1, 0x10, 1, 0x18, books)

/** The frame of that request. */
export const recommend = (books: number): Buffer => Load.frame(recommendMessage(books))

/** The same of the first API. */
export const firstPath = "/Recommendations/Recommend"

/** The frame of a request for so many mysteries, which are category 0 there. */
export const recommendFirst = (books: number): Buffer => Load.frame(Buffer.of(0x08, 1, 0x18, books))
