/**
 * Lists the feedback of a reader, the newest first.
 */
import { Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

import { expectedUserId } from "../../domain/Feedback.ts"
import { InvalidQuery, type Violation } from "../../domain/InvalidQuery.ts"
import * as Page from "../../domain/Page.ts"
import {
  type FeedbackPage,
  type FeedbackQuery,
  maxQueryBooks,
  pageSizes,
  type RecordedFeedback
} from "../../domain/Readers.ts"
import { bookColumns, type BookRow, fromRow } from "../catalog/bookRow.ts"
import { kindByNumber, numberByKind } from "../kindNumbers.ts"

/** The tokens contain the time and the sequence of a record. */
const tokens: Page.TokenFormat = { kind: "feedback", maxima: [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER] }

/** A record with its book. */
interface Row extends BookRow {
  readonly sequence: number
  readonly feedback_id: string
  readonly user_id: number
  readonly kind: number
  readonly rating: number | null
  readonly happened_at: number
  readonly recommendation_id: string
}

export const listFeedback = Effect.fnUntraced(function* (
  query: FeedbackQuery
): Effect.fn.Return<FeedbackPage, InvalidQuery | SqlError.SqlError, SqlClient.SqlClient> {
  const { bookIds, currentOnly, userId } = query
  const { after, size } = yield* validate(query)
  const sql = yield* SqlClient.SqlClient
  const current = currentOnly
    ? sql`AND EXISTS (
        SELECT 1 FROM reader_books
        WHERE reader_books.user_id = feedback.user_id AND reader_books.book_id = feedback.book_id
          AND reader_books.sequence = feedback.sequence AND reader_books.kind <> ${numberByKind.get("RETRACT")!}
      )`
    : sql``
  const rows = yield* sql<Row>`
    SELECT sequence, feedback_id, user_id, kind, rating, happened_at, recommendation_id, ${sql.literal(bookColumns)}
    FROM feedback JOIN books USING (book_id)
    WHERE user_id = ${userId}
      ${after === undefined ? sql`` : sql`AND (happened_at, sequence) < (${after[0]}, ${after[1]})`}
      ${bookIds.length === 0 ? sql`` : sql`AND ${sql.in("book_id", bookIds)}`}
      ${current}
    ORDER BY happened_at DESC, sequence DESC
    LIMIT ${size + 1}`
  const page = rows.slice(0, size)
  const last = page.at(-1)
  return {
    feedback: page.map(toFeedback),
    books: [...new Map(page.map((row) => [row.book_id, row])).values()].map(fromRow),
    nextPageToken:
      rows.length > size && last !== undefined ? Page.encodeToken(tokens, [last.happened_at, last.sequence]) : ""
  }
})

const validate = (query: FeedbackQuery): Effect.Effect<Page.PageRequest, InvalidQuery> => {
  const violations: Array<Violation> = []
  if (query.userId < 1) violations.push({ field: "userId", description: expectedUserId })
  const page = Page.fromQuery(query, pageSizes, tokens, violations)
  if (query.bookIds.length > maxQueryBooks) {
    violations.push({ field: "bookIds", description: `expected at most ${maxQueryBooks}` })
  }
  return violations.length > 0 ? Effect.fail(new InvalidQuery({ violations })) : Effect.succeed(page)
}

const toFeedback = (row: Row): RecordedFeedback => ({
  feedbackId: row.feedback_id,
  userId: row.user_id,
  bookId: row.book_id,
  kind: kindByNumber.get(row.kind)!,
  rating: row.rating ?? undefined,
  happenedAt: row.happened_at,
  recommendationId: row.recommendation_id
})
