/**
 * Reads a CSV file piece by piece, so that no more than a piece of it is in memory. A piece is a number of whole records: each can be
 * parsed by itself, and what is wrong with one is found in it alone. A record that is too long is not kept, but measured.
 */
import { Data, Effect, FileSystem, type PlatformError } from "effect"

/** How much is read at a time, in bytes. */
const chunkSize = 131_072

const lineFeed = 0x0a
const carriageReturn = 0x0d
const quote = 0x22
const comma = 0x2c

export interface Limits {
  /** The most bytes of the file. */
  readonly fileSize: number
  /** The most bytes of a record, its line break included. */
  readonly recordSize: number
}

/** A part of the file. */
export type Piece =
  /** Whole records, one or more. */
  | { readonly _tag: "Records"; readonly bytes: Uint8Array }
  /** A record that is too long, of which nothing was kept. */
  | {
      readonly _tag: "TooLong"
      readonly lineBreaks: number
      /** What is wrong with its quotes, in which case nobody knows where it ends. */
      readonly brokenQuote: BrokenQuote | undefined
    }

/** `open`: the file ends in the middle of a quoted field. `misplaced`: a quote is where none may be. */
export type BrokenQuote = "open" | "misplaced"

/** Something else than a regular file of the size that is allowed. */
export class UnsuitableFile extends Data.TaggedError("UnsuitableFile")<{
  readonly reason:
    | { readonly _tag: "NotRegular"; readonly type: FileSystem.File.Type }
    | { readonly _tag: "TooLarge"; readonly maximum: number }
}> {}

/**
 * Gives each piece of a file to `use`, in turn, which has the bytes until it has ended. Only regular files are read: a device may
 * have no end, and a pipe no writer. It can be interrupted between two reads.
 */
export const forEach = <E>(
  path: string,
  limits: Limits,
  use: (piece: Piece) => Effect.Effect<void, E>
): Effect.Effect<void, E | UnsuitableFile | PlatformError.PlatformError, FileSystem.FileSystem> =>
  Effect.scoped(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { size, type } = yield* fs.stat(path)
      if (type !== "File") return yield* new UnsuitableFile({ reason: { _tag: "NotRegular", type } })
      const tooLarge = new UnsuitableFile({ reason: { _tag: "TooLarge", maximum: limits.fileSize } })
      if (size > limits.fileSize) return yield* tooLarge
      const file = yield* fs.open(path)
      const scanner = new Scanner(limits.recordSize)
      // it may grow meanwhile, and those of /proc have no size
      for (let total = 0; ;) {
        const count = yield* file.read(scanner.room())
        if (count === 0) break
        total += Number(count)
        if (total > limits.fileSize) return yield* tooLarge
        for (const piece of scanner.take(Number(count))) yield* use(piece)
      }
      for (const piece of scanner.end()) yield* use(piece)
    })
  )

/** Finds the ends of records, and keeps what belongs to one that has not ended yet. */
class Scanner {
  readonly #recordSize: number
  readonly #buffer: Uint8Array
  /** There are bytes up to here, of which those from {@link #start} to {@link #end} are whole records. */
  #filled = 0
  #start = 0
  #end = 0
  /** The byte before, in the same record. */
  #previous = 0
  #isQuoted = false
  #isMisplaced = false
  /** The line breaks of a record that is too long, so far, and the last byte that was counted; undefined if there is none. */
  #skipped: { lineBreaks: number; previous: number } | undefined

  constructor(recordSize: number) {
    this.#recordSize = recordSize
    this.#buffer = new Uint8Array(chunkSize + recordSize)
  }

  /** Where the next bytes are to be put. */
  room(): Uint8Array {
    return this.#buffer.subarray(this.#filled, this.#filled + chunkSize)
  }

  /** Takes so many more bytes, and gives the pieces that are whole with them. */
  *take(count: number): Generator<Piece> {
    const until = this.#filled + count
    for (let at = this.#filled; at < until; at++) {
      const byte = this.#buffer[at]!
      // a carriage return ends a record unless a line feed follows
      if (this.#previous === carriageReturn && byte !== lineFeed && !this.#isQuoted) yield* this.#endRecord(at)
      if (byte === quote) this.#seeQuote()
      else if (this.#previous === quote && !this.#isQuoted && !isDelimiter(byte)) this.#isMisplaced = true
      this.#previous = byte
      if (byte === lineFeed && !this.#isQuoted) yield* this.#endRecord(at + 1)
    }
    if (this.#end > this.#start) yield this.#records()
    this.#buffer.copyWithin(0, this.#end, until)
    this.#filled = until - this.#end
    this.#start = this.#end = 0
    if (this.#skipped !== undefined || this.#filled > this.#recordSize) {
      this.#skip(this.#filled)
      this.#filled = 0
    }
  }

  /** Gives the last piece. */
  *end(): Generator<Piece> {
    if (this.#skipped !== undefined) yield this.#tooLong(this.#isQuoted ? "open" : undefined)
    else if (this.#filled > 0) yield { _tag: "Records", bytes: this.#buffer.subarray(0, this.#filled) }
  }

  *#endRecord(at: number): Generator<Piece> {
    if (this.#skipped !== undefined || at - this.#end > this.#recordSize) {
      if (this.#end > this.#start) yield this.#records()
      this.#skip(at)
      yield this.#tooLong(undefined)
      this.#start = at
    }
    this.#end = at
    this.#previous = 0
    this.#isMisplaced = false
  }

  #records(): Piece {
    return { _tag: "Records", bytes: this.#buffer.subarray(this.#start, this.#end) }
  }

  /** Counts the line breaks from the end of the last record up to a position. */
  #skip(until: number): void {
    const skipped = (this.#skipped ??= { lineBreaks: 0, previous: 0 })
    for (let at = this.#end; at < until; at++) {
      const byte = this.#buffer[at]!
      if (byte === carriageReturn || (byte === lineFeed && skipped.previous !== carriageReturn)) skipped.lineBreaks++
      skipped.previous = byte
    }
  }

  #tooLong(brokenQuote: BrokenQuote | undefined): Piece {
    const { lineBreaks } = this.#skipped!
    this.#skipped = undefined
    return { _tag: "TooLong", lineBreaks, brokenQuote: this.#isMisplaced ? "misplaced" : brokenQuote }
  }

  /** A quote in a quoted field is written as two: it ends the field, and begins it again. */
  #seeQuote(): void {
    if (!this.#isQuoted && this.#previous !== quote && !isDelimiter(this.#previous)) this.#isMisplaced = true
    this.#isQuoted = !this.#isQuoted
  }
}

/** Whether a field may begin after a byte, or end before it; 0 stands for the beginning of a record. */
const isDelimiter = (byte: number): boolean =>
  byte === comma || byte === lineFeed || byte === carriageReturn || byte === 0
