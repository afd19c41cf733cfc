/**
 * Imports a file of ratings, also while the services run. The same file again changes nothing, so an import that was killed is simply
 * repeated.
 */
import {
  Array as Arr,
  Cause,
  Effect,
  Exit,
  type FileSystem,
  Option,
  Schema,
  type Stdio,
  String as String_,
  type Terminal
} from "effect"
import { SqlClient } from "effect/sql"

import type { Feedback } from "../../domain/Feedback.ts"
import type { InvalidQuery, Violation } from "../../domain/InvalidQuery.ts"
import type { Recording } from "../../domain/Readers.ts"
import { quoteText } from "../../layers/config/quoteText.ts"
import * as RegularFile from "../../layers/config/RegularFile.ts"
import { Database, type DatabaseUnavailable } from "../../layers/sql/Database.ts"
import * as ImportProgress from "./ImportProgress.ts"
import * as RatingsFile from "./RatingsFile.ts"
import { type Outcome, recordFeedback } from "./recordFeedback.ts"

/** The file has bad rows, and none may be skipped. */
export class BadRatings extends Schema.TaggedError<BadRatings>()("BadRatings", {
  path: Schema.String,
  count: Schema.Int
}) {
  override get message() {
    return `FILE=${quoteText(this.path)}: expected a file of valid ratings of known books, but ${this.count} rows are not; nothing was imported`
  }
}

/** What became of the rows of a file. */
export interface Summary extends Recording {
  readonly rows: number
  /** Rows that are no valid ratings, of readers whom CreateReader has not created, or of times in the future. */
  readonly invalid: number
  /** Rows of books that were never in a catalogue, and the number of these books. */
  readonly ofUnknownBooks: number
  readonly unknownBooks: number
}

/** How long a batch may take. */
const batchTimeout = "2 minutes"

type Services = Database | SqlClient.SqlClient | FileSystem.FileSystem | Stdio.Stdio | Terminal.Terminal

/**
 * Imports the rows of a file that are valid ratings of known books, and prints the others with their lines. With `isStrict` nothing is
 * imported if there are others.
 */
export const importRatings = Effect.fnUntraced(function* (
  path: string,
  { isStrict }: { readonly isStrict: boolean }
): Effect.fn.Return<Summary, RatingsFile.RatingsFileError | BadRatings | DatabaseUnavailable, Services> {
  if (isStrict && path === RegularFile.standardInput) {
    return yield* new RatingsFile.RatingsFileError({
      path,
      reason: "--strict reads the file twice, so it has to be a regular file"
    })
  }
  yield* enlargeCache
  if (isStrict) {
    const { invalid, ofUnknownBooks } = yield* run(path, "Checking ratings", check)
    const count = invalid + ofUnknownBooks
    if (count > 0) return yield* new BadRatings({ path, count })
  }
  return yield* run(path, "Importing ratings", record)
})

/** Feedback ids are spread over their whole index, of which SQLite's cache holds little by default. */
const enlargeCache = Effect.gen(function* () {
  const { run } = yield* Database
  const sql = yield* SqlClient.SqlClient
  yield* sql.onDialectOrElse({
    pg: () => Effect.void,
    // of the connection that writes
    orElse: () =>
      Effect.asVoid(
        run(
          "ratings.cache",
          Effect.scoped(
            Effect.flatMap(sql.reserve, (connection) => connection.executeValues("PRAGMA cache_size = -65536", []))
          )
        )
      )
  })
})

type Rating = RatingsFile.Row & { readonly _tag: "Rating" }

type Process = (
  ratings: ReadonlyArray<Rating>
) => Effect.Effect<Outcome, DatabaseUnavailable, Database | SqlClient.SqlClient>

/** Each row is a call by itself, which succeeds or fails alone. */
const record: Process = (ratings) =>
  Effect.flatMap(Database, ({ transaction }) =>
    transaction("ratings.import", recordFeedback(ratings.map(({ feedback }) => [feedback])), { timeout: batchTimeout })
  )

/** Carries the outcome out of a transaction that is rolled back. */
class RolledBack extends Schema.TaggedError<RolledBack>()("RolledBack", { outcome: Schema.Unknown }) {}

/** As {@link record}, but nothing is recorded. */
const check: Process = (ratings) =>
  Effect.flatMap(Database, ({ transaction }) =>
    transaction(
      "ratings.check",
      Effect.flatMap(recordFeedback(ratings.map(({ feedback }) => [feedback])), (outcome) =>
        Effect.fail(new RolledBack({ outcome }))
      ),
      { timeout: batchTimeout }
    )
  ).pipe(Effect.catchTag("RolledBack", ({ outcome }) => Effect.succeed(outcome as Outcome)))

const run = Effect.fnUntraced(function* (path: string, title: string, process: Process) {
  const progress = yield* ImportProgress.make(title)
  const result = new Result()
  yield* RatingsFile.read(path, (rows, position) =>
    Effect.gen(function* () {
      const ratings = rows.filter((row) => row._tag === "Rating")
      const exits = ratings.length === 0 ? [] : (yield* process(ratings)).exits
      yield* progress.print(result.add(rows, ratings, exits))
      yield* progress.update(result.rows, position)
    })
  ).pipe(
    Effect.ensuring(progress.clear),
    // a repeated import skips these rows
    Effect.onError(() =>
      result.rows === 0
        ? Effect.void
        : Effect.annotateLogs(Effect.logWarning(`${title} ended early`), { processedRows: result.rows })
    )
  )
  return result.summary()
})

/** Adds up what became of rows. */
class Result {
  rows = 0
  #recording: Recording = { recorded: 0, duplicates: 0, dropped: 0 }
  #invalid = 0
  #ofUnknownBooks = 0
  readonly #unknownBooks = new Set<number>()

  /** Returns a line for each row that was not recorded, in their order. */
  add(
    rows: ReadonlyArray<RatingsFile.Row>,
    ratings: ReadonlyArray<Rating>,
    exits: Outcome["exits"]
  ): ReadonlyArray<string> {
    this.rows += rows.length
    const reasons = new Map<RatingsFile.Row, string>()
    for (const [rating, exit] of Arr.zip(ratings, exits)) {
      if (Exit.isSuccess(exit)) this.#addRecording(exit.value)
      else reasons.set(rating, this.#addUnknown(rating, violationsOf(exit)))
    }
    return rows.flatMap((row) => {
      if (row._tag === "Bad") this.#invalid++
      const reason = row._tag === "Bad" ? row.reason : reasons.get(row)
      return reason === undefined ? [] : [`line ${row.line}: ${reason}`]
    })
  }

  summary(): Summary {
    return {
      rows: this.rows,
      ...this.#recording,
      invalid: this.#invalid,
      ofUnknownBooks: this.#ofUnknownBooks,
      unknownBooks: this.#unknownBooks.size
    }
  }

  #addRecording({ dropped, duplicates, recorded }: Recording): void {
    const sum = this.#recording
    this.#recording = {
      recorded: sum.recorded + recorded,
      duplicates: sum.duplicates + duplicates,
      dropped: sum.dropped + dropped
    }
  }

  /** Counts a rating that was refused, and returns the reason. */
  #addUnknown({ feedback }: Rating, violations: ReadonlyArray<Violation>): string {
    const problems = violations.map(({ description, field }) => {
      const name = field.slice(field.lastIndexOf(".") + 1) as keyof Feedback
      return { name, text: `${String_.camelToSnake(name)}: ${description}, got ${feedback[name]}` }
    })
    if (problems.some(({ name }) => name === "bookId")) {
      this.#ofUnknownBooks++
      this.#unknownBooks.add(feedback.bookId)
    } else this.#invalid++
    return problems.map(({ text }) => text).join("; ")
  }
}

const violationsOf = ({ cause }: Exit.Failure<unknown, InvalidQuery>): ReadonlyArray<Violation> =>
  Option.match(Cause.findErrorOption(cause), { onNone: () => [], onSome: ({ violations }) => violations })
