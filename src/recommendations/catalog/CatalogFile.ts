/**
 * The catalogue as a CSV file: UTF-8 (a BOM is allowed), with the header `id,title,authors,year,isbn10,categories`. Authors
 * are separated by commas inside their field, categories by semicolons; the year and the ISBN may be empty.
 *
 * The file is read once, at the start, and wholly checked: every bad row is reported by its line, since whoever mends the
 * file wants to mend it once. It is read piece by piece, and of a book nothing is kept but its place in a {@link BookStore}.
 */
import { Config, Duration, Effect, type FileSystem, Layer, Result, Schema, Stream } from "effect"
import { Csv } from "effect/encoding"

import { BookCatalog } from "../../domain/BookCatalog.ts"
import { ProjectRoot } from "../../layers/config/ProjectRoot.ts"
import { quoteText } from "../../layers/config/quoteText.ts"
import * as Setting from "../../layers/config/Setting.ts"
import * as ObservableMetric from "../../layers/telemetry/ObservableMetric.ts"
import * as BookStore from "./BookStore.ts"
import * as CatalogRow from "./catalogRow.ts"
import * as WholeRecords from "./CsvChunks.ts"
import * as LineOfId from "./LineOfId.ts"

/** What is wrong at a line, which counts from 1. */
const BadLine = Schema.Struct({ line: Schema.Int, reason: Schema.String })
type BadLine = typeof BadLine.Type

/** The catalogue is not fit to be served. The message is for whoever mends the file: a line for each thing to mend. */
export class CatalogFileError extends Schema.TaggedError<CatalogFileError>()("CatalogFileError", {
  path: Schema.String,
  /** What is wrong with the file as a whole, or how many lines are bad. */
  reason: Schema.String,
  badLines: Schema.Array(BadLine)
}) {
  override get message(): string {
    return [
      `CATALOG_FILE=${quoteText(this.path)}: expected a catalogue, but ${this.reason}`,
      ...this.badLines.map(({ line, reason }) => `  line ${line}: ${reason}`)
    ].join("\n")
  }
}

export interface Settings {
  readonly path: string
  /** The most bytes of the file. */
  readonly maxSize: number
}

/** CATALOG_FILE and CATALOG_MAX_SIZE. */
export const settings: Config.Config<Settings> = Config.all({
  path: Setting.text("CATALOG_FILE", {
    description:
      "The path of the catalogue, a regular file: UTF-8 CSV with the header `id,title,authors,year,isbn10,categories`.",
    default: "data/books.csv"
  }),
  maxSize: Setting.count("CATALOG_MAX_SIZE", {
    description: "The largest catalogue file; a million books take some 80 million bytes.",
    unit: "bytes",
    default: 104_857_600,
    minimum: 1
  })
})

/** The most bytes of a row. */
const maxRowSize = 65_536

/** The most memory of the lines that are reported, in bytes; of those that are bad besides only the number is told. */
const maxReport = 16_777_216

/** What a bad line costs besides its reason, roughly. */
const lineOverhead = 100

const unreadable: { readonly [tag: string]: string } = {
  NotFound: "there is no such file",
  PermissionDenied: "this user may not read the file"
}

const unsuitable = ({ reason }: WholeRecords.UnsuitableFile): string =>
  reason._tag === "TooLarge"
    ? `the file has more than the ${reason.maximum} bytes of CATALOG_MAX_SIZE`
    : `it is no regular file (${reason.type})`

/** Reads the books of a file, in its order. */
export const read = Effect.fnUntraced(function* (
  path: string,
  { maxSize = Infinity }: { readonly maxSize?: number } = {}
): Effect.fn.Return<
  ReturnType<BookStore.BookStore["finish"]> & { readonly warnings: Warnings },
  CatalogFileError,
  FileSystem.FileSystem
> {
  const fail = (reason: string, badLines: ReadonlyArray<BadLine> = []) =>
    new CatalogFileError({ path, reason, badLines })

  const reading = makeReading()
  yield* WholeRecords.forEach(path, { fileSize: maxSize, recordSize: maxRowSize }, (piece) =>
    readPiece(reading, piece)
  ).pipe(
    Effect.mapError((error) =>
      fail(
        error._tag === "UnsuitableFile"
          ? unsuitable(error)
          : (unreadable[error.reason._tag] ?? `the file cannot be read (${error.reason.message})`)
      )
    )
  )
  const { badLines, header, isBroken, notUtf8, warnings } = reading
  if (header === undefined && !isBroken) return yield* fail("the file is empty")
  if (header !== CatalogRow.header && !notUtf8.has(1)) {
    const found = badLines.find(({ line }) => line === 1) ?? { line: 1, reason: CatalogRow.shown(header ?? "") }
    const others = badLines.filter(({ line }) => line > 1 && notUtf8.has(line))
    return yield* fail(`its header is not ${CatalogRow.header}`, [found, ...others])
  }
  if (reading.badCount > 0) return yield* fail(summary(reading), badLines)
  const books = reading.store.finish()
  if (books.allBooks.size === 0) return yield* fail("there are no books in it")
  return { ...books, warnings }
})

const summary = ({ badCount, badLines, notUtf8 }: Reading): string => {
  const isNotUtf8 = notUtf8.size > 0 ? "the file is not UTF-8" : undefined
  if (notUtf8.size === badCount) return isNotUtf8!
  const omitted = badCount > badLines.length ? `, of which these are the first ${badLines.length}` : ""
  const bad = `${badCount} ${badCount === 1 ? "line is" : "lines are"} bad${omitted}`
  return isNotUtf8 === undefined ? bad : `${isNotUtf8}, and ${bad}`
}

/** The books of {@link settings}' file, indexed. */
export const layer = Layer.effect(
  BookCatalog,
  Effect.gen(function* () {
    const { maxSize, path } = yield* settings
    const [elapsed, { allBooks, catalog, warnings }] = yield* Effect.timed(
      read((yield* ProjectRoot).resolve(path), { maxSize })
    )
    for (const { line, reason } of warnings.first) yield* Effect.logWarning(`${path}, line ${line}: ${reason}`)
    const others = warnings.count - warnings.first.length
    if (others > 0) yield* Effect.logWarning(`${path}: ${others} more rows like these`)
    yield* ObservableMetric.gauge("catalog_books", "Books in the catalogue", () => allBooks.size)
    yield* ObservableMetric.gauge("catalog_load_duration_seconds", "How long the catalogue took to be read", () =>
      Duration.toSeconds(elapsed)
    )
    yield* Effect.logInfo(
      `The catalogue holds ${allBooks.size} books, read in ${Math.round(Duration.toMillis(elapsed))} ms`
    )
    return catalog
  })
)

/** What is odd about rows that are books all the same: the first of them, and how many there are. */
export interface Warnings {
  readonly first: Array<BadLine>
  count: number
}

/** How many warnings are told. */
const maxWarnings = 20

/** What a file has come to so far. */
interface Reading {
  /** Where the next piece begins. */
  line: number
  header: string | undefined
  /** Whether a broken quote has ended it; what comes after has to be UTF-8 all the same. */
  isBroken: boolean
  readonly badLines: Array<BadLine>
  badCount: number
  reportSize: number
  /** The lines of which one was reported for bytes that are not UTF-8. */
  readonly notUtf8: Set<number>
  readonly warnings: Warnings
  readonly lineOfId: LineOfId.LineOfId
  readonly store: BookStore.BookStore
}

const makeReading = (): Reading => ({
  line: 1,
  header: undefined,
  isBroken: false,
  badLines: [],
  badCount: 0,
  reportSize: 0,
  notUtf8: new Set(),
  warnings: { first: [], count: 0 },
  lineOfId: LineOfId.make(),
  store: BookStore.make()
})

const report = (reading: Reading, line: number, reason: string): void => {
  reading.badCount++
  if (reading.reportSize > maxReport) return
  reading.reportSize += reason.length + lineOverhead
  reading.badLines.push({ line, reason })
}

const reportNotUtf8 = (reading: Reading, line: number): void => {
  // of as many as are told
  if (reading.reportSize <= maxReport) reading.notUtf8.add(line)
  report(reading, line, "bytes that are not UTF-8")
}

const reportBrokenQuote = (reading: Reading, line: number, what: string): void => {
  reading.isBroken = true
  report(reading, line, `a broken quote ends the reading: ${what}`)
}

/** Reads the next piece of a file. */
const readPiece = (reading: Reading, piece: WholeRecords.Piece): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (piece._tag === "Records") return readRecords(reading, decode(piece.bytes, reading.line))
    if (!reading.isBroken) readTooLong(reading, piece)
    reading.line += piece.lineBreaks
    return Effect.void
  })

const readTooLong = (reading: Reading, piece: WholeRecords.Piece & { readonly _tag: "TooLong" }): void => {
  const { line } = reading
  switch (piece.brokenQuote) {
    case undefined:
      report(reading, line, `expected a row of at most ${maxRowSize} bytes`)
      break
    case "open":
      reportBrokenQuote(reading, line, "Unterminated quoted field")
      break
    case "misplaced":
      reportBrokenQuote(reading, line, `in a row of more than ${maxRowSize} bytes`)
      break
  }
  reading.header ??= ""
}

/** Text, with U+FFFD in place of bytes that are not UTF-8, and the lines that have such bytes, in their order. */
interface Decoded {
  readonly text: string
  readonly badLines: ReadonlyArray<number>
}

// the parser takes a BOM away
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const lossy = new TextDecoder("utf-8", { ignoreBOM: true })

/** Decodes bytes that begin at a line. */
const decode = (bytes: Uint8Array, line: number): Decoded => {
  const text = decodeStrictly(bytes)
  if (text !== undefined) return { text, badLines: [] }
  const badLines: Array<number> = []
  let current = line
  for (const part of linesOf(bytes)) {
    if (decodeStrictly(part) === undefined) badLines.push(current)
    current++
  }
  return { text: lossy.decode(bytes), badLines }
}

const decodeStrictly = (bytes: Uint8Array): string | undefined =>
  Result.getOrUndefined(Result.try({ try: () => strict.decode(bytes), catch: () => undefined }))

/** The lines of a text, each with its line break. */
const linesOf = function* (bytes: Uint8Array) {
  let start = 0
  for (const [index, byte] of bytes.entries()) {
    const isEnd = byte === 0x0a || (byte === 0x0d && bytes[index + 1] !== 0x0a)
    if (!isEnd) continue
    yield bytes.subarray(start, index + 1)
    start = index + 1
  }
  yield bytes.subarray(start)
}

const lineBreak = /\r\n|\n|\r/g

/** Hardly a cell has any, so that looking for them is most of the work. */
const countLineBreaks = (cell: string): number =>
  cell.includes("\n") || cell.includes("\r") ? (cell.match(lineBreak)?.length ?? 0) : 0

/** What stands before a line. */
const linesBefore = (text: string, line: number): string => {
  let current = 1
  for (const { 0: match, index } of text.matchAll(lineBreak)) {
    if (current === line - 1) return text.slice(0, index + match.length)
    current++
  }
  return ""
}

const readRecords = (reading: Reading, { badLines, text }: Decoded): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { line: start } = reading
    const skip = () => {
      for (const line of badLines) if (line >= reading.line) reportNotUtf8(reading, line)
      reading.line = start + countLineBreaks(text)
    }
    if (reading.isBroken) return Effect.sync(skip)
    return Effect.catchTag(readRows(reading, text, badLines), "CsvError", ({ line, message }) =>
      // The parser keeps to itself what stands before a broken quote: so that is read once more, up to the line that the broken
      // record begins at.
      Effect.map(Effect.orDie(readRows(reading, linesBefore(text, line), badLines)), () => {
        reportBrokenQuote(reading, start + line - 1, message)
        skip()
      })
    )
  })

/** Reads the rows of a text: all of them, or none. */
const readRows = (
  reading: Reading,
  text: string,
  badLines: ReadonlyArray<number>
): Effect.Effect<void, Csv.CsvError> => {
  const notUtf8 = badLines.length === 0 ? undefined : new Set(badLines)
  // The parser takes one BOM away, which is the file's where that begins. What is in memory is a few rows.
  return (reading.header === undefined ? Stream.make(text) : Stream.make("\uFEFF", text)).pipe(
    Stream.pipeThroughChannel(Csv.decodeString({ maxRecordSize: Infinity })),
    Stream.runForEachArray((rows) => Effect.sync(() => rows.forEach((row) => readRow(reading, row, notUtf8))))
  )
}

const readRow = (reading: Reading, row: Csv.Row, notUtf8: ReadonlySet<number> | undefined): void => {
  const start = reading.line
  reading.line++
  for (const cell of row) reading.line += countLineBreaks(cell)
  const badLine = notUtf8 === undefined ? undefined : firstOf(notUtf8, start, reading.line)
  if (reading.header === undefined) reading.header = row.join(",")
  else if (badLine === undefined) return readBook(reading, row, start)
  if (badLine !== undefined) reportNotUtf8(reading, badLine)
}

/** The first of some lines that is in a range, the end of which is not. */
const firstOf = (lines: ReadonlySet<number>, start: number, end: number): number | undefined => {
  for (let line = start; line < end; line++) if (lines.has(line)) return line
  return undefined
}

const readBook = (reading: Reading, row: Csv.Row, line: number): void => {
  if (row.length === 1 && row[0] === "") return
  const decoded = CatalogRow.decode(row)
  if (Result.isFailure(decoded)) return report(reading, line, decoded.failure)
  const book = decoded.success
  const other = reading.lineOfId.add(book.id, line)
  if (other !== undefined) return report(reading, line, `id: ${book.id} is on line ${other} already`)
  reading.store.add(book)
  const warning = CatalogRow.warning(row)
  if (warning === undefined) return
  reading.warnings.count++
  if (reading.warnings.first.length < maxWarnings) reading.warnings.first.push({ line, reason: warning })
}
