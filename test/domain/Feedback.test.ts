import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"

import { counts, excludingKinds, FeedbackKind, type ReceivedFeedback, validate } from "../../src/domain/Feedback.ts"

const now = Date.UTC(2026, 10, 28)

const valid: ReceivedFeedback = {
  feedbackId: "0b6d7d0e-7c3f-4a7e-9d56-0f6b4a0c9a11",
  userId: 7,
  bookId: 1,
  kind: "LIKE",
  rating: 0,
  happenedAt: undefined,
  recommendationId: ""
}

const violationsOf = (...received: ReadonlyArray<ReceivedFeedback>) =>
  Result.match(validate(received, now), {
    onSuccess: () => [],
    onFailure: ({ violations }) => violations.map(({ description, field }) => `${field}: ${description}`)
  })

describe("validate", () => {
  it.each([
    {},
    { kind: "RATING", rating: 1 },
    { kind: "RATING", rating: 5 },
    { happenedAt: 0 },
    { happenedAt: now + 60_000 },
    { userId: 2_147_483_647, bookId: 2_147_483_647 },
    { recommendationId: "r".repeat(64) },
    // code points of two code units
    { recommendationId: "\u{1f4d6}".repeat(64) }
  ] satisfies ReadonlyArray<Partial<ReceivedFeedback>>)("accepts %j", (fields) => {
    assert.deepStrictEqual(violationsOf({ ...valid, ...fields }), [])
  })

  const feedbackId = "feedbackId: expected a UUID"
  const userId = "userId: expected 1 or above"
  const kind = "kind: expected a known kind"
  const rating = "rating: expected 1 to 5"
  const noRating = "rating: expected no rating, since kind is not RATING"
  const happenedAt = "happenedAt: expected a time from 1970 to a minute from now"
  const recommendationId = "recommendationId: expected at most 64 characters, without U+0000"
  it.each([
    [{ feedbackId: "" }, [feedbackId]],
    [{ feedbackId: "0b6d7d0e7c3f4a7e9d560f6b4a0c9a11" }, [feedbackId]],
    [{ feedbackId: `${valid.feedbackId}\0` }, [feedbackId]],
    [{ userId: 0 }, [userId]],
    [{ userId: -1, bookId: 0 }, [userId, "bookId: expected 1 or above"]],
    [{ kind: undefined }, [kind]],
    [{ kind: undefined, rating: 3 }, [kind, noRating]],
    [{ kind: "RATING" }, [rating]],
    [{ kind: "RATING", rating: 6 }, [rating]],
    [{ kind: "RATING", rating: -1 }, [rating]],
    [{ rating: 3 }, [noRating]],
    [{ happenedAt: -1 }, [happenedAt]],
    [{ happenedAt: now + 60_001 }, [happenedAt]],
    [{ happenedAt: Number.NaN }, [happenedAt]],
    [{ recommendationId: "r".repeat(65) }, [recommendationId]],
    [{ recommendationId: "\u{1f4d6}".repeat(65) }, [recommendationId]],
    [{ recommendationId: "\0" }, [recommendationId]]
  ] satisfies ReadonlyArray<[Partial<ReceivedFeedback>, ReadonlyArray<string>]>)("refuses %j", (fields, expected) => {
    assert.deepStrictEqual(
      violationsOf(valid, { ...valid, ...fields }),
      expected.map((violation) => `feedback[1].${violation}`)
    )
  })

  it("names every violation of every record", () => {
    assert.deepStrictEqual(violationsOf({ ...valid, bookId: 0, kind: undefined }, valid, { ...valid, rating: 1 }), [
      "feedback[0].bookId: expected 1 or above",
      "feedback[0].kind: expected a known kind",
      "feedback[2].rating: expected no rating, since kind is not RATING"
    ])
  })

  it("accepts 1 to 1000 records", () => {
    const records = (length: number) => Array.from({ length }, () => valid)
    assert.deepStrictEqual(violationsOf(...records(1000)), [])
    for (const length of [0, 1001]) {
      assert.deepStrictEqual(violationsOf(...records(length)), ["feedback: expected 1 to 1000 records"])
    }
  })

  it("returns ids in lower case, and no rating for kinds without one", () => {
    const lowered = validate([{ ...valid, feedbackId: valid.feedbackId.toUpperCase() }], now)
    assert.deepStrictEqual(Result.isSuccess(lowered) && lowered.success, [
      { ...valid, kind: "LIKE", rating: undefined }
    ])
    const rated = validate([{ ...valid, kind: "RATING", rating: 4 }], now)
    assert.strictEqual(Result.isSuccess(rated) && rated.success[0]?.rating, 4)
  })
})

describe("kinds of feedback", () => {
  it("are those that count, and impressions and views", () => {
    assert.deepStrictEqual(
      FeedbackKind.literals.filter((kind) => !counts(kind)),
      ["IMPRESSION", "VIEW"]
    )
  })

  it("exclude books only if they count", () => {
    assert.isTrue(excludingKinds.every(counts))
  })
})
