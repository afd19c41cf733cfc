/**
 * The catalogue as a CSV file: UTF-8 (a BOM is allowed), with the header `id,title,authors,year,isbn10,categories`. Authors
 * are separated by commas inside their field, categories by semicolons; the year and the ISBN may be empty.
 *
 * The file is read once, at the start, and wholly checked: every bad row is reported by its line, since whoever mends the
 * file wants to mend it once. It is read piece by piece, and of a book nothing is kept but its place in a {@link BookStore}.
 */
import { Config, Duration, Effect, type FileSystem, Layer, Option, Result, Schema, Stream } from "effect"
import { Csv } from "effect/encoding"

import { BookCatalog } from "../domain/BookCatalog.ts"
import * as Observed from "../layers/Observed.ts"
import { ProjectRoot } from "../layers/ProjectRoot.ts"
import * as Setting from "../layers/Setting.ts"
import * as BookStore from "./BookStore.ts"
import * as CatalogRow from "./CatalogRow.ts"
import * as LineOfId from "./LineOfId.ts"
import * as WholeRecords from "./WholeRecords.ts"

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
      `CATALOG_FILE=${JSON.stringify(this.path)}: expected a catalogue, but ${this.reason}`,
      ...this.badLines.map(({ line, reason }) => `  line ${line}: ${reason}`)
    ].join("\n")
  }
}

/** CATALOG_FILE (data/books.csv, from the project's root). */
export const settings = Config.all({ path: Setting.text("CATALOG_FILE", "data/books.csv") })

const unreadable: { readonly [tag: string]: string } = {
  NotFound: "there is no such file",
  PermissionDenied: "this user may not read the file",
  BadResource: "it is a folder, or something else that is no file"
}

/** Reads the books of a file, in its order. */
export const read = Effect.fnUntraced(function* (
  path: string
): Effect.fn.Return<ReturnType<BookStore.BookStore["finish"]>, CatalogFileError, FileSystem.FileSystem> {
  const fail = (reason: string, badLines: ReadonlyArray<BadLine> = []) =>
    new CatalogFileError({ path, reason, badLines })

  const reading = makeReading()
  yield* Effect.mapError(
    WholeRecords.forEach(path, (piece) =>
      Effect.flatMap(
        Effect.mapError(decodeUtf8(piece, reading.line), (line) =>
          fail("the file is not UTF-8", [{ line, reason: "bytes that are not UTF-8" }])
        ),
        (text) => readPiece(reading, text)
      )
    ),
    (error) =>
      error._tag === "CatalogFileError"
        ? error
        : fail(unreadable[error.reason._tag] ?? `the file cannot be read (${error.reason.message})`)
  )
  const { badLines, header = "", isBroken } = reading
  if (reading.header === undefined && !isBroken) return yield* fail("the file is empty")
  if (header !== CatalogRow.header) {
    return yield* fail(`its header is not ${CatalogRow.header}`, [{ line: 1, reason: JSON.stringify(header) }])
  }
  if (badLines.length > 0) {
    return yield* fail(`${badLines.length} ${badLines.length === 1 ? "line is" : "lines are"} bad`, badLines)
  }
  const books = reading.store.finish()
  if (books.allBooks.size === 0) return yield* fail("there are no books in it")
  return books
})

/** The books of {@link settings}' file, indexed. */
export const layer = Layer.effect(
  BookCatalog,
  Effect.gen(function* () {
    const { path } = yield* settings
    const [elapsed, { allBooks, catalog }] = yield* Effect.timed(read((yield* ProjectRoot).resolve(path)))
    yield* Observed.gauge("catalog_books", "Books in the catalogue", () => allBooks.size)
    yield* Observed.gauge("catalog_load_duration_seconds", "How long the catalogue took to be read", () =>
      Duration.toSeconds(elapsed)
    )
    yield* Effect.logInfo(
      `The catalogue holds ${allBooks.size} books, read in ${Math.round(Duration.toMillis(elapsed))} ms`
    )
    return catalog
  })
)

/** The text of a piece of a file that begins at a line, or the first line that is not UTF-8. */
const decodeUtf8 = (piece: Uint8Array, line: number): Effect.Effect<string, number> => {
  const decode = (bytes: Uint8Array) =>
    Effect.try({
      // the parser takes a BOM away
      try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes),
      catch: () => "not UTF-8" as const
    })
  return Effect.catch(decode(piece), () =>
    Effect.gen(function* () {
      let before = ""
      for (const part of linesOf(piece)) {
        const text = yield* Effect.option(decode(part))
        if (Option.isNone(text)) break
        before += text.value
      }
      return yield* Effect.fail(line + countLineBreaks(before))
    })
  )
}

/** The parts of a text that end with a line feed or a carriage return. */
const linesOf = function* (bytes: Uint8Array) {
  let start = 0
  for (const [index, byte] of bytes.entries()) {
    if (byte !== 0x0a && byte !== 0x0d) continue
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

/** What a file has come to so far. */
interface Reading {
  /** Where the next piece begins. */
  line: number
  header: string | undefined
  /** Whether a broken quote has ended it; what comes after has to be UTF-8 all the same. */
  isBroken: boolean
  readonly badLines: Array<BadLine>
  readonly lineOfId: LineOfId.LineOfId
  readonly store: BookStore.BookStore
}

const makeReading = (): Reading => ({
  line: 1,
  header: undefined,
  isBroken: false,
  badLines: [],
  lineOfId: LineOfId.make(),
  store: BookStore.make()
})

/** Reads the next piece of a file. */
const readPiece = (reading: Reading, text: string): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { line: start } = reading
    const skip = () => {
      reading.line = start + countLineBreaks(text)
    }
    if (reading.isBroken) return Effect.sync(skip)
    return Effect.catchTag(readRows(reading, text), "CsvError", ({ line, message }) =>
      // The parser keeps to itself what stands before a broken quote: so that is read once more, up to the line that the broken
      // record begins at.
      Effect.map(Effect.orDie(readRows(reading, linesBefore(text, line))), () => {
        reading.isBroken = true
        reading.badLines.push({ line: start + line - 1, reason: `a broken quote ends the reading: ${message}` })
        skip()
      })
    )
  })

/** Reads the rows of a text: all of them, or none. */
const readRows = (reading: Reading, text: string): Effect.Effect<void, Csv.CsvError> =>
  // The parser takes one BOM away, which is the file's where that begins. What is in memory may be one row, however long.
  (reading.header === undefined ? Stream.make(text) : Stream.make("\uFEFF", text)).pipe(
    Stream.pipeThroughChannel(Csv.decodeString({ maxRecordSize: Infinity })),
    Stream.runForEachArray((rows) => Effect.sync(() => rows.forEach((row) => readRow(reading, row))))
  )

const readRow = (reading: Reading, row: Csv.Row): void => {
  const start = reading.line
  reading.line++
  for (const cell of row) reading.line += countLineBreaks(cell)
  if (reading.header === undefined) {
    reading.header = row.join(",")
  } else if (row.length > 1 || row[0] !== "") {
    const decoded = CatalogRow.decode(row)
    if (Result.isFailure(decoded)) {
      reading.badLines.push({ line: start, reason: decoded.failure })
      return
    }
    const book = decoded.success
    const other = reading.lineOfId.add(book.id, start)
    if (other === undefined) reading.store.add(book)
    else reading.badLines.push({ line: start, reason: `id: ${book.id} is on line ${other} already` })
  }
}
