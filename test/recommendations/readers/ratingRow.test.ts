import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"

import { decode } from "../../../src/recommendations/readers/ratingRow.ts"

const now = Date.UTC(2026, 10, 28, 12)

const row = (text: string, line = 7) => {
  const cells = text.split(",")
  return decode(cells, { length: cells.length, line, now })
}

const timeOf = (text: string) =>
  Result.match(row(`1,2,3,${text}`), { onFailure: String, onSuccess: (f) => f.happenedAt })

describe("ratingRow", () => {
  it("is a rating, whose time is the line if there is no other", () => {
    assert.deepStrictEqual(Result.getOrThrow(row("58,26,1")), {
      // part of databases: it must never change
      feedbackId: "2fa3def8-67c6-5872-abb4-83cedeb6eb4c",
      userId: 58,
      bookId: 26,
      kind: "RATING",
      rating: 1,
      happenedAt: 7,
      recommendationId: ""
    })
    assert.deepStrictEqual(row("58,26,1,"), row("58,26,1"))
  })

  it("has another id for another reader, book, rating or time, and only then", () => {
    const ids = ["58,26,1", "58,26,2", "58,27,1", "59,26,1", "58,26,1,2026-01-31", "58,26,1,2026-01-31T00:00:00Z"].map(
      (text) => Result.getOrThrow(row(text)).feedbackId
    )
    assert.strictEqual(new Set(ids).size, 5)
    assert.strictEqual(ids[4], ids[5])
    assert.notStrictEqual(Result.getOrThrow(row("58,26,1", 8)).feedbackId, ids[0])
  })

  it.each([
    ["1970-01-01", 0],
    ["2026-01-31", Date.UTC(2026, 0, 31)],
    ["2026-01-31T12:34:56Z", Date.UTC(2026, 0, 31, 12, 34, 56)],
    ["2026-01-31T12:34:56.789123Z", Date.UTC(2026, 0, 31, 12, 34, 56, 789)],
    ["2026-01-31T12:34:56+02:00", Date.UTC(2026, 0, 31, 10, 34, 56)],
    ["2026-11-28T12:00:00Z", now]
  ])("reads the time %s", (text, millis) => {
    assert.strictEqual(timeOf(text), millis)
  })

  it.each([
    ["1969-12-31"],
    ["2026-11-28T12:00:01Z"],
    ["2026-02-29"],
    ["2026-13-01"],
    ["2026-01-31T12:34:56"],
    ["2026-01-31 12:34:56Z"],
    ["1700000000"],
    ["yesterday"]
  ])("refuses the time %s", (text) => {
    assert.match(String(timeOf(text)), /^happened_at: expected a time from 1970 to now, .*, got /)
  })

  it.each([
    ["0,1,5", 'user_id: expected a whole number from 1 to 2147483647, got "0"'],
    ["1.0,1,5", 'user_id: expected a whole number from 1 to 2147483647, got "1.0"'],
    ["2147483648,1,5", 'user_id: expected a whole number from 1 to 2147483647, got "2147483648"'],
    ["1,-1,5", 'book_id: expected a whole number from 1 to 2147483647, got "-1"'],
    ["1, 1,5", 'book_id: expected a whole number from 1 to 2147483647, got " 1"'],
    ["1,1,6", 'rating: expected a whole number from 1 to 5, got "6"'],
    ["1,1,0", 'rating: expected a whole number from 1 to 5, got "0"'],
    ["1,1,4.5", 'rating: expected a whole number from 1 to 5, got "4.5"'],
    [
      "x,1,",
      'user_id: expected a whole number from 1 to 2147483647, got "x"; rating: expected a whole number from 1 to 5, got ""'
    ]
  ])("refuses %s", (text, reason) => {
    assert.deepStrictEqual(row(text), Result.fail(reason))
  })

  it("refuses a row with another number of columns", () => {
    assert.deepStrictEqual(
      decode(["1", "2", "3", ""], { length: 3, line: 1, now }),
      Result.fail("expected 3 columns, got 4")
    )
  })
})
