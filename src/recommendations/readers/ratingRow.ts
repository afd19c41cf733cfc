/**
 * Converts a row of a file of ratings to feedback.
 */
import { DateTime, Option, Result } from "effect"

import type { Feedback } from "../../domain/Feedback.ts"
import { uuidV5 } from "../../layers/sql/uuidV5.ts"
import { formatCell } from "../catalog/catalogRow.ts"

const columns = ["user_id", "book_id", "rating", "happened_at"] as const

/** The first row of a file, without and with the times of the ratings. */
export const headers: ReadonlyArray<string> = [columns.slice(0, 3).join(","), columns.join(",")]

/** The expected content of each column, for error messages. */
const expected: { readonly [Column in (typeof columns)[number]]: string } = {
  user_id: "a whole number from 1 to 2147483647",
  book_id: "a whole number from 1 to 2147483647",
  rating: "a whole number from 1 to 5",
  happened_at: 'a time from 1970 to now, such as "2026-01-31T12:00:00Z" or "2026-01-31", or nothing'
}

/** A UUID of our own. It must not change, because it is part of the ids of imported ratings. */
const namespace = "6f0d2a54-5f0e-4d0c-9a53-0c1b6f9e7d21"

/** A date, or a date and a time with its zone (RFC 3339). */
const time = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2}))?$/

/**
 * The feedback of a row with `length` columns, or a message with the problem of each invalid cell. The time of a row without one is its
 * line, in milliseconds since 1970. The same reader, book, rating and time always have the same feedback id.
 */
export const decode = (
  cells: ReadonlyArray<string>,
  { length, line, now }: { readonly length: number; readonly line: number; readonly now: number }
): Result.Result<Feedback, string> => {
  if (cells.length !== length) return Result.fail(`expected ${length} columns, got ${cells.length}`)
  const values = [toWholeNumber(cells[0]!), toWholeNumber(cells[1]!), toWholeNumber(cells[2]!), toTime(cells[3], line)]
  const [userId, bookId, rating, happenedAt] = values as [number, number, number, number]
  const isValid = [isId(userId), isId(bookId), rating >= 1 && rating <= 5, happenedAt >= 0 && happenedAt <= now]
  if (isValid.includes(false)) {
    const problems = columns.flatMap((column, index) =>
      isValid[index] === true ? [] : [`${column}: expected ${expected[column]}, got ${formatCell(cells[index] ?? "")}`]
    )
    return Result.fail(problems.join("; "))
  }
  return Result.succeed({
    feedbackId: uuidV5(namespace, [userId, bookId, rating, happenedAt].join(":")),
    userId,
    bookId,
    kind: "RATING",
    rating,
    happenedAt,
    recommendationId: ""
  })
}

const isId = (value: number) => value >= 1 && value <= 2_147_483_647

const toWholeNumber = (cell: string): number => (/^\d{1,10}$/.test(cell) ? Number(cell) : Number.NaN)

const toTime = (cell: string | undefined, line: number): number => {
  if (cell === undefined || cell === "") return line
  if (!time.test(cell)) return Number.NaN
  const date = cell.slice(0, 10)
  // a day that its month does not have would be one of the next month
  const hasDay = Option.exists(DateTime.make(date), (day) => DateTime.formatIsoDateUtc(day) === date)
  return hasDay
    ? Option.match(DateTime.make(cell), { onNone: () => Number.NaN, onSome: DateTime.toEpochMillis })
    : Number.NaN
}
