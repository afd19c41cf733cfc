/**
 * The readers of the shop, and what is recorded about them.
 */
import { Context, type Effect, Schema } from "effect"

import type { Book } from "./Book.ts"
import type { Feedback, ReceivedFeedback } from "./Feedback.ts"
import type { InvalidQuery } from "./InvalidQuery.ts"
import type { PageQuery, PageSizes } from "./Page.ts"

/** What is recorded about readers cannot be reached at the moment. The operation can be retried. */
export class ReadersUnavailable extends Schema.TaggedError<ReadersUnavailable>()("ReadersUnavailable", {
  cause: Schema.Defect()
}) {
  override get message() {
    return this.cause instanceof Error ? this.cause.message : String(this.cause)
  }
}

/** All ids of readers have been given, so that no reader can be created any more. */
export class NoReaderIds extends Schema.TaggedError<NoReaderIds>()("NoReaderIds", {}) {}

/** What became of feedback. Each record is counted once. */
export interface Recording {
  readonly recorded: number
  /** Those whose feedback id was known already. */
  readonly duplicates: number
  /** Those of readers who have been forgotten. */
  readonly dropped: number
}

/** The number of records in a page of {@link Readers}. */
export const pageSizes: PageSizes = { default: 50, maximum: 1000 }

/** The maximum number of books that a query of feedback may name. */
export const maxQueryBooks = 100

/** A query of feedback as it was received; {@link Readers} validates it. */
export interface FeedbackQuery extends PageQuery {
  readonly userId: number
  /** Only what counts now: the latest of each book, without impressions, views and retracted books. */
  readonly currentOnly: boolean
  /** Only what is about these books, at most {@link maxQueryBooks}; none means all. */
  readonly bookIds: ReadonlyArray<number>
}

/** Feedback with the time that it was recorded with. */
export interface RecordedFeedback extends Feedback {
  readonly happenedAt: number
}

export interface FeedbackPage {
  /** The newest first. */
  readonly feedback: ReadonlyArray<RecordedFeedback>
  /** The books of the feedback, each once; also those that are no longer in the catalogue. */
  readonly books: ReadonlyArray<Book>
  /** Empty on the last page. */
  readonly nextPageToken: string
}

/** What is known about a reader for a recommendation. */
export interface History {
  /** The ids of books that are not recommended to the reader. */
  readonly excluded: ReadonlySet<number>
  /**
   * `current` has everything that was recorded before the query, `cached` is of an earlier time, because the database did not answer, and
   * `unavailable` is empty for the same reason.
   */
  readonly source: "current" | "cached" | "unavailable"
}

/** The history of a visitor who has not signed in. */
export const noHistory: History = { excluded: new Set(), source: "current" }

export class Readers extends Context.Service<
  Readers,
  {
    /** Creates a reader and returns its id; the same UUID returns the same reader, unless that one has been forgotten. */
    readonly create: (requestId: string) => Effect.Effect<number, InvalidQuery | NoReaderIds | ReadersUnavailable>
    /** Records feedback, all of it or none, except that of forgotten readers. */
    readonly record: (
      feedback: ReadonlyArray<ReceivedFeedback>
    ) => Effect.Effect<Recording, InvalidQuery | ReadersUnavailable>
    readonly list: (query: FeedbackQuery) => Effect.Effect<FeedbackPage, InvalidQuery | ReadersUnavailable>
    /** Deletes everything about a reader, and returns the number of deleted records. An unknown reader has none. */
    readonly forget: (userId: number) => Effect.Effect<number, InvalidQuery | ReadersUnavailable>
    /** The history of a reader; of reader 0 it is {@link noHistory}. It does not fail and answers soon, whatever the database does. */
    readonly history: (userId: number) => Effect.Effect<History>
  }
>()("onlinebooks/domain/Readers") {}
