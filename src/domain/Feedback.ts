/**
 * What readers did and said about books, and the rules for it.
 */
import { Result, Schema } from "effect"

import { InvalidQuery, type Violation } from "./InvalidQuery.ts"

/** What a reader did or said. The order is that of the API's enum. */
export const FeedbackKind = Schema.Literals([
  "IMPRESSION",
  "VIEW",
  "WANT_TO_READ",
  "READ",
  "LIKE",
  "DISLIKE",
  "RATING",
  "HIDE",
  "RETRACT"
])

export type FeedbackKind = typeof FeedbackKind.Type

/** Whether feedback of a kind replaces what the reader said about the book before. */
export const counts = (kind: FeedbackKind): boolean => kind !== "IMPRESSION" && kind !== "VIEW"

/** A book is not recommended to a reader whose current feedback about it is of one of these kinds. */
export const excludingKinds: ReadonlyArray<FeedbackKind> = ["READ", "LIKE", "DISLIKE", "RATING", "HIDE"]

/** The first and the last of the ids that are given to readers who are created. Lower ones are the shop's own accounts. */
export const firstCreatedId = 1_000_000_000
export const lastCreatedId = 2_147_483_647

/** How long feedback for one of the shop's own accounts is dropped after it was forgotten, in milliseconds. */
export const accountTombstoneLifetime = 86_400_000

/** One thing that a reader did or said. */
export interface Feedback {
  /** A UUID in lower case. Feedback with an id that is known already is not recorded again. */
  readonly feedbackId: string
  readonly userId: number
  readonly bookId: number
  readonly kind: FeedbackKind
  /** 1 to 5 with RATING, undefined with every other kind. */
  readonly rating: number | undefined
  /** In milliseconds since 1970 (UTC); undefined is now, by the clock of the database. */
  readonly happenedAt: number | undefined
  /** The recommendation that it is about; empty if none. */
  readonly recommendationId: string
}

/** Feedback as it was received; {@link validate} checks it. */
export interface ReceivedFeedback extends Omit<Feedback, "kind" | "rating"> {
  /** Undefined if it is missing or unknown. */
  readonly kind: FeedbackKind | undefined
  /** 0 if it is missing. */
  readonly rating: number
}

/** The maximum number of records that are recorded together. */
export const maxRecords = 1000

/** The maximum length of the id of a recommendation, in code points. */
const maxRecommendationIdLength = 64

/** How far in the future feedback may have happened, in milliseconds, since clocks differ. */
const maxFuture = 60_000

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** Whether a text is a UUID, in any case. */
export const isUuid = (text: string): boolean => uuid.test(text)

/** Expected by every id that is a UUID, for error messages. */
export const expectedUuid = "expected a UUID"

/** Expected by the id of every reader, for error messages. */
export const expectedUserId = "expected 1 or above"

/** Expected by the time of feedback, for error messages. */
export const expectedHappenedAt = "expected a time from 1970 to a minute from now"

/** Whether feedback may have happened at a time, in milliseconds since 1970. Clocks may differ a little. */
export const isNotFuture = (happenedAt: number, now: number): boolean => happenedAt <= now + maxFuture

/** Checks feedback at a time in milliseconds since 1970. Every violation is listed by its path, such as `feedback[3].rating`. */
export const validate = (
  received: ReadonlyArray<ReceivedFeedback>,
  now: number
): Result.Result<ReadonlyArray<Feedback>, InvalidQuery> => {
  if (received.length < 1 || received.length > maxRecords) {
    return Result.fail(
      new InvalidQuery({ violations: [{ field: "feedback", description: `expected 1 to ${maxRecords} records` }] })
    )
  }
  const violations = received.flatMap((record, index) =>
    violationsOf(record, now).map(({ description, field }) => ({ field: `feedback[${index}].${field}`, description }))
  )
  return violations.length > 0
    ? Result.fail(new InvalidQuery({ violations }))
    : Result.succeed(received.map(toFeedback))
}

const violationsOf = (record: ReceivedFeedback, now: number): ReadonlyArray<Violation> => {
  const { bookId, feedbackId, happenedAt, kind, rating, recommendationId, userId } = record
  const violations: Array<Violation> = []
  const expect = (isValid: boolean, field: keyof ReceivedFeedback, description: string) => {
    if (!isValid) violations.push({ field, description })
  }
  expect(isUuid(feedbackId), "feedbackId", expectedUuid)
  expect(userId >= 1, "userId", expectedUserId)
  expect(bookId >= 1, "bookId", "expected 1 or above")
  expect(kind !== undefined, "kind", "expected a known kind")
  if (kind === "RATING") expect(rating >= 1 && rating <= 5, "rating", "expected 1 to 5")
  else expect(rating === 0, "rating", "expected no rating, since kind is not RATING")
  expect(
    happenedAt === undefined || (happenedAt >= 0 && isNotFuture(happenedAt, now)),
    "happenedAt",
    expectedHappenedAt
  )
  expect(
    isRecommendationId(recommendationId),
    "recommendationId",
    `expected at most ${maxRecommendationIdLength} characters, without U+0000`
  )
  return violations
}

const isRecommendationId = (text: string): boolean =>
  // a code point is one or two UTF-16 code units, so most texts need no counting
  (text.length <= maxRecommendationIdLength ||
    (text.length <= maxRecommendationIdLength * 2 && Array.from(text).length <= maxRecommendationIdLength)) &&
  !text.includes("\0")

const toFeedback = (record: ReceivedFeedback): Feedback => ({
  ...record,
  feedbackId: record.feedbackId.toLowerCase(),
  kind: record.kind!,
  rating: record.kind === "RATING" ? record.rating : undefined
})
