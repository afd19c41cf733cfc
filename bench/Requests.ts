/**
 * What is asked of Recommendations.
 */
import * as Load from "./Load.ts"

export const recommendPath = "/onlinebooks.recommendations.v1.RecommendationsService/Recommend"

/** The frame of a request for so many mysteries: `user_id` 1, `category` 1, `max_results`. */
export const recommend = (books: number): Buffer => Load.frame(Uint8Array.of(0x08, 1, 0x10, 1, 0x18, books))
