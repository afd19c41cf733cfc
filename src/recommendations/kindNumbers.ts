/**
 * The enum numbers of the domain's kinds of feedback in onlinebooks.recommendations.v1. The database has the same numbers.
 */
import { FeedbackKind } from "../domain/Feedback.ts"
import {
  FeedbackKind as KindNumber,
  type FeedbackKind__Output
} from "../generated/v1/onlinebooks/recommendations/v1/FeedbackKind.ts"

/** The enum number of each kind. */
export const numberByKind: ReadonlyMap<FeedbackKind, FeedbackKind__Output> = new Map(
  FeedbackKind.literals.map((kind) => [kind, KindNumber[`FEEDBACK_KIND_${kind}`]])
)

/** The kind of each enum number. */
export const kindByNumber: ReadonlyMap<number, FeedbackKind> = new Map(
  Array.from(numberByKind, ([kind, number]) => [number, kind])
)
