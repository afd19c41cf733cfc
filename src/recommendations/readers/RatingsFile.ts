/**
 * A file of ratings: UTF-8 CSV with the header `user_id,book_id,rating`, or with `happened_at` after it. Without times, the order of the
 * rows is that of time.
 */
import { Array as Arr, Clock, Effect, FileSystem, PlatformError, Result, Schema } from "effect"

import type { Feedback } from "../../domain/Feedback.ts"
import { quoteText } from "../../layers/config/quoteText.ts"
import * as RegularFile from "../../layers/config/RegularFile.ts"
import { formatCell } from "../catalog/catalogRow.ts"
import * as CsvRecords from "../catalog/CsvRecords.ts"
import * as ratingRow from "./ratingRow.ts"

/** The file cannot be read on. The message is one line. */
export class RatingsFileError extends Schema.TaggedError<RatingsFileError>()("RatingsFileError", {
  path: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `FILE=${quoteText(this.path)}: expected a file of ratings, but ${this.reason}`
  }
}

/** A row; lines are counted from 1. The reason of a bad one is for an operator. */
export type Row =
  | { readonly _tag: "Rating"; readonly line: number; readonly feedback: Feedback }
  | { readonly _tag: "Bad"; readonly line: number; readonly reason: string }

/** How much of a file was read. */
export interface Position {
  readonly bytes: number
  /** Of the whole file. */
  readonly size: number
}

/** The maximum size of a row, in bytes. */
const maxRowSize = 4096

/** The number of rows that are passed together. */
const batchSize = 5000

/**
 * Passes the rows of a file to `use` in batches while the file is read. It fails at a broken quote, after the rows before it have been passed.
 */
export const read = Effect.fnUntraced(function* <E, R>(
  path: string,
  use: (rows: Arr.NonEmptyReadonlyArray<Row>, position: Position) => Effect.Effect<void, E, R>
): Effect.fn.Return<void, RatingsFileError | E, FileSystem.FileSystem | R> {
  const fs = yield* FileSystem.FileSystem
  const reading = new Reading(yield* Clock.currentTimeMillis)
  let chunks = 0
  const passRows = Effect.fnUntraced(function* (position: Position) {
    if (reading.headerProblem !== undefined) {
      return yield* new RatingsFileError({ path, reason: reading.headerProblem })
    }
    for (const rows of Arr.chunksOf(reading.rows.splice(0), batchSize)) yield* use(rows, position)
  })
  yield* Effect.gen(function* () {
    const size = Number((yield* fs.stat(path)).size)
    yield* CsvRecords.forEach(
      path,
      { fileSize: Infinity, recordSize: maxRowSize },
      (record) => reading.add(record),
      Effect.suspend(() => passRows({ bytes: Math.min(size, ++chunks * RegularFile.chunkSize), size }))
    )
  }).pipe(
    Effect.mapError((error) => {
      const reason = unreadable(error)
      return reason === undefined ? (error as RatingsFileError | E) : new RatingsFileError({ path, reason })
    })
  )
  const reason = reading.isEmpty ? "the file is empty" : reading.brokenQuote
  if (reason !== undefined) return yield* new RatingsFileError({ path, reason })
})

/** Why a file cannot be read; undefined for other errors. */
const unreadable = (error: unknown): string | undefined => {
  if (error instanceof RegularFile.UnsuitableFile) {
    return error.reason._tag === "AlreadyRead" ? "the standard input has been read already" : "it is not a regular file"
  }
  if (!(error instanceof PlatformError.PlatformError)) return undefined
  return error.reason._tag === "NotFound"
    ? "there is no such file"
    : error.reason._tag === "PermissionDenied"
      ? "this user may not read the file"
      : `the file cannot be read (${error.reason.message})`
}

/** The rows that were read and not passed yet. */
class Reading {
  isEmpty = true
  headerProblem: string | undefined
  brokenQuote: string | undefined
  readonly rows: Array<Row> = []
  #columnCount = 0
  readonly #now: number

  constructor(now: number) {
    this.#now = now
  }

  add(record: CsvRecords.CsvRecord): void {
    if (this.isEmpty) {
      this.isEmpty = false
      this.#addHeader(record)
    } else if (record._tag === "Row") {
      this.#addRow(record)
    } else if (record._tag === "TooLong") {
      this.#addBad(record.line, `expected a row of at most ${maxRowSize} bytes`)
    } else if (record._tag === "BrokenQuote") {
      this.brokenQuote = `line ${record.line} has an invalid quote, after which nothing was read: ${record.reason}`
    }
  }

  #addHeader(record: CsvRecords.CsvRecord): void {
    const header = record._tag === "Row" && record.notUtf8 === undefined ? record.cells.join(",") : undefined
    if (header !== undefined && ratingRow.headers.includes(header)) {
      this.#columnCount = header.split(",").length
    } else {
      const got = header === undefined ? "a row that cannot be read" : formatCell(header)
      this.headerProblem = `its header is not ${ratingRow.headers.join(" or ")}; line 1: ${got}`
    }
  }

  #addRow({ cells, line, notUtf8 }: CsvRecords.CsvRecord & { readonly _tag: "Row" }): void {
    if (cells.length === 1 && cells[0] === "") return
    if (notUtf8 !== undefined) return this.#addBad(notUtf8, "bytes that are not UTF-8")
    const decoded = ratingRow.decode(cells, { length: this.#columnCount, line, now: this.#now })
    if (Result.isFailure(decoded)) return this.#addBad(line, decoded.failure)
    this.rows.push({ _tag: "Rating", line, feedback: decoded.success })
  }

  #addBad(line: number, reason: string): void {
    this.rows.push({ _tag: "Bad", line, reason })
  }
}
