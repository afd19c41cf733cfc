/**
 * Reads the records of a CSV file (RFC 4180) in bounded memory, whatever the file contains. Each record has its line number and its
 * problem, so that all errors of a file can be reported together.
 */
import { Effect, type FileSystem, type PlatformError, Result } from "effect"

import * as RegularFile from "../../layers/config/RegularFile.ts"

const lineFeed = 0x0a
const carriageReturn = 0x0d
const quote = 0x22
const comma = 0x2c
/** Placeholder for the byte before the first one of a record. */
const none = 0

export interface Limits {
  /** The maximum size of the file, in bytes. */
  readonly fileSize: number
  /** The maximum size of a record with its line break, in bytes. */
  readonly recordSize: number
}

/** A record with the line of its first byte; lines are counted from 1. */
export type CsvRecord =
  /** `notUtf8` is the first line of the record that is not UTF-8. Its cells contain U+FFFD in place of invalid bytes. */
  | {
      readonly _tag: "Row"
      readonly line: number
      readonly cells: ReadonlyArray<string>
      readonly notUtf8: number | undefined
    }
  /** The record exceeds {@link Limits.recordSize}; its content is dropped. */
  | { readonly _tag: "TooLong"; readonly line: number }
  /** A quote is misplaced or not closed, so the end of the record is unknown. No row follows. */
  | { readonly _tag: "BrokenQuote"; readonly line: number; readonly reason: string }
  /** After a broken quote, a line that is not UTF-8. */
  | { readonly _tag: "NotUtf8"; readonly line: number }

/**
 * Passes each record of a regular file to `use`, and returns the SHA-256 of the file, in lower-case hexadecimal. `afterChunk` runs after
 * the records of each chunk of the file, so that the records can be processed while the file is read.
 */
export const forEach = <E = never, R = never>(
  path: string,
  limits: Limits,
  use: (record: CsvRecord) => void,
  afterChunk: Effect.Effect<void, E, R> = Effect.void as Effect.Effect<void, E, R>
): Effect.Effect<string, RegularFile.UnsuitableFile | PlatformError.PlatformError | E, FileSystem.FileSystem | R> =>
  Effect.suspend(() => {
    const scanner = new Scanner(limits.recordSize, use)
    const scan = (count: number) =>
      Effect.andThen(
        Effect.sync(() => scanner.scan(count)),
        afterChunk
      )
    return RegularFile.read(path, limits.fileSize, { buffer: () => scanner.freeSpace(), use: scan }).pipe(
      Effect.tap(() =>
        Effect.andThen(
          Effect.sync(() => scanner.end()),
          afterChunk
        )
      )
    )
  })

/** Finds the records in a sequence of chunks. */
class Scanner {
  readonly #recordSize: number
  readonly #use: (record: CsvRecord) => void
  readonly #buffer: Uint8Array
  /** The end of the bytes in the buffer. */
  #filled = 0
  /** The start of the current record in the buffer. */
  #start = 0
  /** The line of the start of the current record. */
  #line = 1
  /** The number of line breaks in the current record so far. */
  #lineBreaks = 0
  /** Whether the start of the current record was dropped. */
  #isTooLong = false
  /** The byte before the next one in the current record. */
  #previous = none
  /** Whether the next byte is in a quoted field. After a broken quote, quotes have no meaning, and each line counts as a record. */
  #state: "unquoted" | "quoted" | "broken" = "unquoted"

  constructor(recordSize: number, use: (record: CsvRecord) => void) {
    this.#recordSize = recordSize
    this.#use = use
    this.#buffer = new Uint8Array(RegularFile.chunkSize + recordSize)
  }

  /** The buffer for the next chunk. */
  freeSpace(): Uint8Array {
    return this.#buffer.subarray(this.#filled, this.#filled + RegularFile.chunkSize)
  }

  /** Scans the next `count` bytes, which have been written to {@link freeSpace}. */
  scan(count: number): void {
    this.#scanFrom(this.#filled, this.#filled + count)
    // keep the incomplete record, unless it is too long
    this.#buffer.copyWithin(0, this.#start, this.#filled)
    this.#filled -= this.#start
    this.#start = 0
    if (this.#isTooLong || this.#filled > this.#recordSize) {
      this.#isTooLong = true
      this.#filled = 0
    }
  }

  /** Ends the last record. */
  end(): void {
    if (this.#state === "quoted") this.#breakOff(this.#filled, "Unterminated quoted field")
    if (this.#filled > this.#start || this.#isTooLong) this.#endRecord(this.#filled)
  }

  #scanFrom(from: number, until: number): void {
    this.#filled = until
    for (let at = from; at < until; at++) {
      const byte = this.#buffer[at]!
      // a carriage return ends a record unless a line feed follows
      if (this.#previous === carriageReturn && byte !== lineFeed && this.#state !== "quoted") this.#endRecord(at)
      if (byte === 0xbf && this.#line === 1 && at === 2 && this.#skipByteOrderMark()) continue
      const problem = this.#followQuotes(byte)
      if (problem !== undefined) return this.#breakOff(at, problem)
      if (byte === carriageReturn || (byte === lineFeed && this.#previous !== carriageReturn)) this.#lineBreaks++
      this.#previous = byte
      if (byte === lineFeed && this.#state !== "quoted") this.#endRecord(at + 1)
    }
  }

  #skipByteOrderMark(): boolean {
    if (this.#isTooLong || this.#buffer[0] !== 0xef || this.#buffer[1] !== 0xbb) return false
    this.#start = 3
    this.#previous = none
    return true
  }

  /** Updates the state for the next byte, or returns the problem of its quotes. A doubled quote closes and reopens the field. */
  #followQuotes(byte: number): string | undefined {
    if (this.#state === "broken" || (byte !== quote && this.#previous !== quote)) return undefined
    if (byte === quote) {
      const canBegin = this.#state === "quoted" || this.#previous === quote || isDelimiter(this.#previous)
      if (!canBegin) return "Unexpected quote in an unquoted field"
      this.#state = this.#state === "quoted" ? "unquoted" : "quoted"
    } else if (this.#state === "unquoted" && !isDelimiter(byte)) {
      return "Expected a delimiter or line break after a closing quote"
    }
    return undefined
  }

  /** Reports a broken quote, and scans the current record again, line by line. */
  #breakOff(at: number, problem: string): void {
    const isTooLong = this.#isTooLong || at - this.#start > this.#recordSize
    const reason = isTooLong && this.#state === "unquoted" ? `in a row of more than ${this.#recordSize} bytes` : problem
    this.#use({ _tag: "BrokenQuote", line: this.#line, reason })
    this.#state = "broken"
    if (isTooLong) {
      // UTF-8 is not checked up to the next line break
      this.#isTooLong = true
      this.#line += this.#lineBreaks
      this.#start = at
    }
    this.#lineBreaks = 0
    this.#previous = none
    this.#scanFrom(this.#start, this.#filled)
  }

  #endRecord(end: number): void {
    const line = this.#line
    if (!this.#isTooLong && end - this.#start <= this.#recordSize) this.#useRecord(line, end)
    else if (this.#state !== "broken") this.#use({ _tag: "TooLong", line })
    this.#start = end
    this.#line += this.#lineBreaks
    this.#lineBreaks = 0
    this.#previous = none
    this.#isTooLong = false
  }

  #useRecord(line: number, end: number): void {
    const bytes = withoutLineBreak(this.#buffer.subarray(this.#start, end))
    const text = decodeStrictly(bytes)
    if (this.#state === "broken") {
      if (text === undefined) this.#use({ _tag: "NotUtf8", line })
    } else if (text === undefined) {
      const notUtf8 = line + linesOf(bytes).findIndex((part) => decodeStrictly(part) === undefined)
      this.#use({ _tag: "Row", line, cells: cellsOf(lossyDecoder.decode(bytes)), notUtf8 })
    } else this.#use({ _tag: "Row", line, cells: cellsOf(text), notUtf8: undefined })
  }
}

/** Whether a field can start after a byte, or end before it. */
const isDelimiter = (byte: number): boolean =>
  byte === comma || byte === lineFeed || byte === carriageReturn || byte === none

// a byte order mark is a character, except at the start of the file
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const lossyDecoder = new TextDecoder("utf-8", { ignoreBOM: true })

const decodeStrictly = (bytes: Uint8Array): string | undefined =>
  Result.getOrUndefined(Result.try({ try: () => strictDecoder.decode(bytes), catch: () => undefined }))

const withoutLineBreak = (bytes: Uint8Array): Uint8Array => {
  let { length } = bytes
  if (bytes[length - 1] === lineFeed) length--
  if (bytes[length - 1] === carriageReturn) length--
  return bytes.subarray(0, length)
}

/** The lines of a record, with their line breaks. */
const linesOf = (bytes: Uint8Array): ReadonlyArray<Uint8Array> => {
  const lines: Array<Uint8Array> = []
  let start = 0
  for (const [index, byte] of bytes.entries()) {
    if (byte !== lineFeed && (byte !== carriageReturn || bytes[index + 1] === lineFeed)) continue
    lines.push(bytes.subarray(start, index + 1))
    start = index + 1
  }
  lines.push(bytes.subarray(start))
  return lines
}

/** The cells of a record with valid quotes. */
const cellsOf = (text: string): ReadonlyArray<string> => {
  if (!text.includes('"')) return text.split(",")
  const cells: Array<string> = []
  for (const [, cell = "", delimiter] of text.matchAll(/("[^"]*(?:""[^"]*)*"|[^,]*)(,|$)/g)) {
    cells.push(cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell)
    if (delimiter === "") break
  }
  return cells
}
