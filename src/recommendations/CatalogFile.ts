/**
 * The catalogue as a CSV file: UTF-8 (a BOM is allowed), with the header `id,title,authors,year,isbn10,categories`. Authors
 * are separated by commas inside their field, categories by semicolons; the year and the ISBN may be empty.
 *
 * The file is read once, at the start, and wholly checked: every bad row is reported by its line, since whoever mends the
 * file wants to mend it once.
 */
import { Config, Duration, Effect, Exit, FileSystem, Layer, Result, Schema, Stream } from "effect"
import { Csv } from "effect/encoding"

import type { Book } from "../domain/Book.ts"
import { BookCatalog } from "../domain/BookCatalog.ts"
import * as Observed from "../layers/Observed.ts"
import { ProjectRoot } from "../layers/ProjectRoot.ts"
import * as Setting from "../layers/Setting.ts"
import * as CatalogRow from "./CatalogRow.ts"

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
): Effect.fn.Return<ReadonlyArray<Book>, CatalogFileError, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const fail = (reason: string, badLines: ReadonlyArray<BadLine> = []) =>
    new CatalogFileError({ path, reason, badLines })

  const bytes = yield* Effect.mapError(fs.readFile(path), ({ reason }) =>
    fail(unreadable[reason._tag] ?? `the file cannot be read (${reason.message})`)
  )
  if (bytes.length === 0) return yield* fail("the file is empty")
  const text = yield* decodeUtf8(bytes).pipe(
    Effect.mapError((line) => fail("the file is not UTF-8", [{ line, reason: "bytes that are not UTF-8" }]))
  )
  const { badLines, books, header } = yield* readRows(text).pipe(
    // The parser keeps to itself what stands between its last chunk and a broken quote: so that part is read once more,
    // up to the line that the broken record begins at.
    Effect.catchTag("CsvError", (broken) =>
      Effect.map(Effect.orDie(readRows(linesBefore(text, broken.line))), (rows) => ({
        ...rows,
        badLines: [
          ...rows.badLines,
          { line: broken.line, reason: `a broken quote ends the reading: ${broken.message}` }
        ]
      }))
    )
  )
  if (header !== CatalogRow.header) {
    return yield* fail(`its header is not ${CatalogRow.header}`, [{ line: 1, reason: JSON.stringify(header) }])
  }
  if (badLines.length > 0) {
    return yield* fail(`${badLines.length} ${badLines.length === 1 ? "line is" : "lines are"} bad`, badLines)
  }
  if (books.length === 0) return yield* fail("there are no books in it")
  return books
})

/** The books of {@link settings}' file, indexed. */
export const layer = Layer.effect(
  BookCatalog,
  Effect.gen(function* () {
    const { path } = yield* settings
    const [elapsed, books] = yield* Effect.timed(read((yield* ProjectRoot).resolve(path)))
    yield* Observed.gauge("catalog_books", "Books in the catalogue", () => books.length)
    yield* Observed.gauge("catalog_load_duration_seconds", "How long the catalogue took to be read", () =>
      Duration.toSeconds(elapsed)
    )
    yield* Effect.logInfo(
      `The catalogue holds ${books.length} books, read in ${Math.round(Duration.toMillis(elapsed))} ms`
    )
    return BookCatalog.fromBooks(books)
  })
)

/** The text of a file, or the first line that is not UTF-8. */
const decodeUtf8 = (bytes: Uint8Array): Effect.Effect<string, number> => {
  const decode = (part: Uint8Array) =>
    Effect.try({
      // it takes a BOM away
      try: () => new TextDecoder("utf-8", { fatal: true }).decode(part),
      catch: () => "not UTF-8" as const
    })
  return Effect.catch(decode(bytes), () =>
    Effect.gen(function* () {
      let line = 1
      for (let start = 0; start < bytes.length; line++) {
        const lineFeed = bytes.indexOf(0x0a, start)
        const end = lineFeed === -1 ? bytes.length : lineFeed + 1
        if (Exit.isFailure(yield* Effect.exit(decode(bytes.subarray(start, end))))) break
        start = end
      }
      return yield* Effect.fail(line)
    })
  )
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

/** How much text the parser gets at a time, in characters. */
const chunkSize = 65_536

const chunksOf = function* (text: string) {
  for (let start = 0; start < text.length; start += chunkSize) yield text.slice(start, start + chunkSize)
}

interface Rows {
  readonly header: string
  readonly books: ReadonlyArray<Book>
  readonly badLines: ReadonlyArray<BadLine>
}

const readRows = (text: string): Effect.Effect<Rows, Csv.CsvError> =>
  Effect.suspend(() => {
    const books: Array<Book> = []
    const badLines: Array<BadLine> = []
    const lineOfId = new Map<number, number>()
    let header: string | undefined
    let line = 1

    const readRow = (row: Csv.Row) => {
      const start = line
      line++
      for (const cell of row) line += countLineBreaks(cell)
      if (header === undefined) {
        header = row.join(",")
      } else if (row.length > 1 || row[0] !== "") {
        const decoded = CatalogRow.decode(row)
        if (Result.isFailure(decoded)) {
          badLines.push({ line: start, reason: decoded.failure })
          return
        }
        const book = decoded.success
        const other = lineOfId.get(book.id)
        if (other === undefined) {
          lineOfId.set(book.id, start)
          books.push(book)
        } else {
          badLines.push({ line: start, reason: `id: ${book.id} is on line ${other} already` })
        }
      }
    }

    return Stream.fromIterable(chunksOf(text), { chunkSize: 1 }).pipe(
      // the text is in memory, so that a row may be as long as it is
      Stream.pipeThroughChannel(Csv.decodeString({ maxRecordSize: Infinity })),
      // and the process hears its signals between the chunks
      Stream.runForEachArray((rows) =>
        Effect.andThen(
          Effect.sync(() => rows.forEach(readRow)),
          Effect.yieldNow
        )
      ),
      Effect.map(() => ({ header: header ?? "", books, badLines }))
    )
  })
