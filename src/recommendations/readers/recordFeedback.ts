/**
 * Records feedback of several calls in one transaction. `feedback` is append-only; `reader_books` has for each reader and book the feedback
 * that counts now: the latest by its time, then by its arrival.
 */
import { Effect, Exit } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

import { counts, expectedHappenedAt, type Feedback, isNotFuture } from "../../domain/Feedback.ts"
import { InvalidQuery, type Violation } from "../../domain/InvalidQuery.ts"
import type { Recording } from "../../domain/Readers.ts"
import { jsonRows } from "../../layers/sql/jsonRows.ts"
import { numberByKind } from "../kindNumbers.ts"
import { type LockedReaders, lockReaders } from "./lockReaders.ts"

/** The feedback of one call, which is recorded as a whole. */
export type Call = ReadonlyArray<Feedback>

export interface Outcome {
  /** One for each call. */
  readonly exits: ReadonlyArray<Exit.Exit<Recording, InvalidQuery>>
  /** The readers for whom other feedback counts now. */
  readonly changedReaders: ReadonlySet<number>
}

/** Feedback to insert, as the columns of its table. */
interface FeedbackRow {
  readonly feedback_id: string
  readonly user_id: number
  readonly book_id: number
  readonly kind: number
  /** Null in the database. */
  readonly rating: number | undefined
  readonly happened_at: number
  readonly recommendation_id: string
}

/** Runs in a transaction. A call with an unknown book or reader or with a time in the future fails, and the others succeed. */
export const recordFeedback = Effect.fnUntraced(function* (
  calls: ReadonlyArray<Call>
): Effect.fn.Return<Outcome, SqlError.SqlError, SqlClient.SqlClient> {
  const received = calls.flat()
  const unknownBooks = yield* findUnknownBooks(distinct(received, ({ bookId }) => bookId))
  const readers = yield* lockReaders(distinct(received, ({ userId }) => userId))
  const violations = calls.map((call) => violationsOf(call, unknownBooks, readers))
  const isDropped = ({ userId }: Feedback) => readers.isForgotten.get(userId) === true

  const accepted = new Map<string, Feedback>()
  for (const [index, call] of calls.entries()) {
    if (violations[index]!.length > 0) continue
    for (const record of call) {
      if (!isDropped(record) && !accepted.has(record.feedbackId)) accepted.set(record.feedbackId, record)
    }
  }
  const rows = yield* toRows([...accepted.values()], readers.now)
  const sequences = yield* insertFeedback(rows)
  const current = latestOf(accepted, rows, sequences)
  yield* updateReaderBooks(current)

  const isRecorded = (record: Feedback) =>
    accepted.get(record.feedbackId) === record && sequences.has(record.feedbackId)
  return {
    exits: calls.map((call, index) =>
      violations[index]!.length > 0
        ? Exit.fail(new InvalidQuery({ violations: violations[index]! }))
        : Exit.succeed(count(call, isDropped, isRecorded))
    ),
    changedReaders: new Set(current.map(({ user_id }) => user_id))
  }
})

const distinct = <A>(items: ReadonlyArray<A>, key: (item: A) => number): ReadonlyArray<number> => [
  ...new Set(items.map(key))
]

const findUnknownBooks = Effect.fnUntraced(function* (bookIds: ReadonlyArray<number>) {
  const sql = yield* SqlClient.SqlClient
  const input = jsonRows(
    sql,
    { book_id: "INTEGER" },
    bookIds.map((book_id) => ({ book_id }))
  )
  const rows = yield* sql<{ readonly book_id: number }>`
    SELECT input.book_id FROM ${input} WHERE NOT EXISTS (SELECT 1 FROM books WHERE books.book_id = input.book_id)`
  return new Set(rows.map(({ book_id }) => book_id))
})

const violationsOf = (
  call: Call,
  unknownBooks: ReadonlySet<number>,
  { isForgotten, now }: LockedReaders
): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  for (const [index, { bookId, happenedAt, userId }] of call.entries()) {
    if (!isForgotten.has(userId)) {
      violations.push({ field: `feedback[${index}].userId`, description: "expected an id that CreateReader has given" })
    }
    if (unknownBooks.has(bookId)) {
      violations.push({
        field: `feedback[${index}].bookId`,
        description: "expected a book that is or was in the catalogue"
      })
    }
    // this replica's clock may be ahead
    if (happenedAt !== undefined && isForgotten.size > 0 && !isNotFuture(happenedAt, now)) {
      violations.push({ field: `feedback[${index}].happenedAt`, description: expectedHappenedAt })
    }
  }
  return violations
}

const pairOf = (userId: number, bookId: number) => `${userId}:${bookId}`

/** The rows to insert. What happened now is later than what counts already for the same reader and book. */
const toRows = Effect.fnUntraced(function* (records: ReadonlyArray<Feedback>, now: number) {
  const latest = yield* readTimes(records.filter(({ happenedAt }) => happenedAt === undefined))
  return records.map((record): FeedbackRow => {
    const pair = pairOf(record.userId, record.bookId)
    const before = latest.get(pair) ?? -1
    const happenedAt = record.happenedAt ?? Math.max(now, before + 1)
    if (counts(record.kind)) latest.set(pair, Math.max(before, happenedAt))
    return {
      feedback_id: record.feedbackId,
      user_id: record.userId,
      book_id: record.bookId,
      kind: numberByKind.get(record.kind)!,
      rating: record.rating,
      happened_at: happenedAt,
      recommendation_id: record.recommendationId
    }
  })
})

/** The times of what counts for the readers and books of feedback. */
const readTimes = Effect.fnUntraced(function* (records: ReadonlyArray<Feedback>) {
  if (records.length === 0) return new Map<string, number>()
  const sql = yield* SqlClient.SqlClient
  const input = jsonRows(
    sql,
    { user_id: "INTEGER", book_id: "INTEGER" },
    records.map(({ bookId, userId }) => ({ user_id: userId, book_id: bookId }))
  )
  const rows = yield* sql<{ readonly user_id: number; readonly book_id: number; readonly happened_at: number }>`
    SELECT user_id, book_id, happened_at FROM ${input} JOIN reader_books USING (user_id, book_id)`
  return new Map(rows.map(({ book_id, happened_at, user_id }) => [pairOf(user_id, book_id), happened_at]))
})

/** Inserts rows whose ids are not known, in their order, and returns the sequences of these. */
const insertFeedback = Effect.fnUntraced(function* (rows: ReadonlyArray<FeedbackRow>) {
  if (rows.length === 0) return new Map<string, number>()
  const sql = yield* SqlClient.SqlClient
  const input = jsonRows(
    sql,
    {
      feedback_id: "TEXT",
      user_id: "INTEGER",
      book_id: "INTEGER",
      kind: "SMALLINT",
      rating: "SMALLINT",
      happened_at: "BIGINT",
      recommendation_id: "TEXT"
    },
    rows
  )
  const inserted = yield* sql<{ readonly feedback_id: string; readonly sequence: number }>`
    INSERT INTO feedback (feedback_id, user_id, book_id, kind, rating, happened_at, recommendation_id)
    SELECT feedback_id, user_id, book_id, kind, rating, happened_at, recommendation_id FROM ${input} WHERE true
    ON CONFLICT (feedback_id) DO NOTHING
    RETURNING feedback_id, sequence`
  return new Map(inserted.map(({ feedback_id, sequence }) => [feedback_id, sequence]))
})

type CurrentRow = Pick<FeedbackRow, "user_id" | "happened_at"> & { readonly sequence: number }

/** What counts of inserted rows, one for each reader and book. */
const latestOf = (
  accepted: ReadonlyMap<string, Feedback>,
  rows: ReadonlyArray<FeedbackRow>,
  sequences: ReadonlyMap<string, number>
): ReadonlyArray<CurrentRow> => {
  const latest = new Map<string, CurrentRow>()
  for (const { book_id, feedback_id, happened_at, user_id } of rows) {
    const sequence = sequences.get(feedback_id)
    if (sequence === undefined || !counts(accepted.get(feedback_id)!.kind)) continue
    const pair = pairOf(user_id, book_id)
    const other = latest.get(pair)
    if (other !== undefined && other.happened_at > happened_at) continue
    latest.set(pair, { user_id, happened_at, sequence })
  }
  return [...latest.values()]
}

/** Lets inserted feedback count unless later feedback counts already. */
const updateReaderBooks = Effect.fnUntraced(function* (rows: ReadonlyArray<CurrentRow>) {
  if (rows.length === 0) return
  const sql = yield* SqlClient.SqlClient
  const input = jsonRows(
    sql,
    { sequence: "BIGINT" },
    rows.map(({ sequence }) => ({ sequence }))
  )
  yield* sql`
    INSERT INTO reader_books (user_id, book_id, kind, rating, happened_at, sequence)
    SELECT user_id, book_id, kind, rating, happened_at, sequence FROM ${input} JOIN feedback USING (sequence) WHERE true
    ON CONFLICT (user_id, book_id) DO UPDATE SET
      kind = excluded.kind,
      rating = excluded.rating,
      happened_at = excluded.happened_at,
      sequence = excluded.sequence
    WHERE (excluded.happened_at, excluded.sequence) > (reader_books.happened_at, reader_books.sequence)`
})

const count = (
  call: Call,
  isDropped: (record: Feedback) => boolean,
  isRecorded: (record: Feedback) => boolean
): Recording => {
  const dropped = call.filter(isDropped).length
  const recorded = call.filter(isRecorded).length
  return { recorded, duplicates: call.length - dropped - recorded, dropped }
}
