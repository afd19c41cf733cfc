/**
 * The catalogue as a CSV file: UTF-8 (a byte order mark is allowed), with the header `id,title,authors,year,isbn10,categories`. Authors
 * are separated by commas inside their field, categories by semicolons; the year and the ISBN may be empty.
 *
 * An invalid file is rejected as a whole, with an error for each invalid row.
 */
import { Array as Arr, Config, Effect, type FileSystem, PlatformError, Result, Schema } from "effect"

import type { Book } from "../../domain/Book.ts"
import { ProjectRoot } from "../../layers/config/ProjectRoot.ts"
import { quoteText } from "../../layers/config/quoteText.ts"
import * as RegularFile from "../../layers/config/RegularFile.ts"
import * as Setting from "../../layers/config/Setting.ts"
import * as catalogRow from "./catalogRow.ts"
import * as CsvRecords from "./CsvRecords.ts"

/** A problem in a line; lines are counted from 1. */
const BadLine = Schema.Struct({ line: Schema.Int, reason: Schema.String })
type BadLine = typeof BadLine.Type

/** The file cannot be imported. The message has one line for each problem. */
export class CatalogFileError extends Schema.TaggedError<CatalogFileError>()("CatalogFileError", {
  /** The setting or the argument that has the path. */
  variable: Schema.String,
  path: Schema.String,
  /** The problem of the whole file, or the number of invalid lines. */
  reason: Schema.String,
  badLines: Schema.Array(BadLine)
}) {
  override get message(): string {
    return [
      `${this.variable}=${quoteText(this.path)}: expected a catalogue, but ${this.reason}`,
      ...this.badLines.map(({ line, reason }) => `  line ${line}: ${reason}`)
    ].join("\n")
  }
}

/** A catalogue file. */
export interface CatalogFile {
  /** The setting or the argument that has the path, for error messages. */
  readonly variable: string
  /** Absolute. */
  readonly path: string
  /** The maximum size of the file, in bytes. */
  readonly maxSize: number
}

/** CATALOG_FILE and CATALOG_MAX_SIZE. */
export const settings = Config.all({
  path: Setting.text("CATALOG_FILE", {
    description:
      "The path of the catalogue, a regular file: UTF-8 CSV with the header `id,title,authors,year,isbn10,categories`. It is imported " +
      "at the start, unless the database has imported a file with the same content before.",
    default: "data/books.csv"
  }),
  maxSize: Setting.count("CATALOG_MAX_SIZE", {
    description: "The largest catalogue file; a million books take some 80 million bytes.",
    unit: "bytes",
    default: 104_857_600,
    minimum: 1
  })
})

/** The file of {@link settings}. */
export const fromSettings = Effect.gen(function* () {
  const { maxSize, path } = yield* settings
  const file: CatalogFile = { variable: "CATALOG_FILE", path: (yield* ProjectRoot).resolve(path), maxSize }
  return file
})

/** The maximum size of a row, in bytes. */
const maxRowSize = 65_536

/** The maximum memory of reported bad lines, in bytes. Further ones are only counted. */
const maxReportSize = 16_777_216

/** The approximate overhead of a reported bad line, in bytes. */
const badLineOverhead = 100

/** The maximum number of logged warnings. Further ones are only counted. */
const maxWarnings = 20

/** What was found in an accepted file. */
export interface Summary {
  /** Of the bytes that were read, in lower-case hexadecimal. */
  readonly sha256: string
  readonly bookCount: number
  /** The first warnings about rows that are accepted. */
  readonly warnings: ReadonlyArray<BadLine>
  readonly warningCount: number
}

/** The number of books that are passed together. Their rows can be large. */
const batchSize = 250

/**
 * Passes the books of a file to `use`, in batches and in the order of the rows, while the file is read. If the file turns out to be invalid,
 * the effect fails after some of its books have been passed.
 */
export const read = Effect.fnUntraced(function* <E, R>(
  file: CatalogFile,
  use: (books: Arr.NonEmptyReadonlyArray<Book>) => Effect.Effect<void, E, R>
): Effect.fn.Return<Summary, CatalogFileError | E, FileSystem.FileSystem | R> {
  const reading = new Reading()
  const sha256 = yield* CsvRecords.forEach(
    file.path,
    { fileSize: file.maxSize, recordSize: maxRowSize },
    (record) => reading.add(record),
    Effect.suspend(() => Effect.forEach(reading.takeBatches(false), use, { discard: true }))
  ).pipe(Effect.mapError((error) => (isFileProblem(error) ? toCatalogFileError(file, error) : error)))
  const problem = reading.problem()
  if (problem !== undefined) return yield* new CatalogFileError({ ...file, ...problem })
  yield* Effect.forEach(reading.takeBatches(true), use, { discard: true })
  const { bookCount, warningCount, warnings } = reading
  return { sha256, bookCount, warningCount, warnings }
})

/** The SHA-256 of a file, in lower-case hexadecimal. */
export const sha256 = (file: CatalogFile): Effect.Effect<string, CatalogFileError, FileSystem.FileSystem> =>
  Effect.mapError(RegularFile.sha256(file.path, file.maxSize), (error) => toCatalogFileError(file, error))

const isFileProblem = (error: unknown): error is RegularFile.FileProblem =>
  error instanceof RegularFile.UnsuitableFile || error instanceof PlatformError.PlatformError

const toCatalogFileError = ({ path, variable }: CatalogFile, error: RegularFile.FileProblem) =>
  new CatalogFileError({
    variable,
    path,
    reason:
      error._tag === "UnsuitableFile"
        ? unsuitable(error)
        : (unreadable[error.reason._tag] ?? `the file cannot be read (${error.reason.message})`),
    badLines: []
  })

const unreadable: { readonly [tag: string]: string } = {
  NotFound: "there is no such file",
  PermissionDenied: "this user may not read the file"
}

const unsuitable = ({ reason }: RegularFile.UnsuitableFile): string => {
  switch (reason._tag) {
    case "TooLarge":
      return `the file has more than the ${reason.maximum} bytes of CATALOG_MAX_SIZE`
    case "NotRegular":
      return `it is not a regular file (${reason.type})`
    case "AlreadyRead":
      return "the standard input has been read already: run the command again, or import a regular file"
  }
}

/** The books of the rows that were read, and their problems. */
class Reading {
  bookCount = 0
  readonly warnings: Array<BadLine> = []
  warningCount = 0
  readonly #books: Array<Book> = []
  #header: string | undefined
  readonly #lineOfId = new Map<number, number>()
  readonly #badLines: Array<BadLine> = []
  #badLineCount = 0
  #reportSize = 0
  /** The reported lines that are not UTF-8. */
  readonly #notUtf8 = new Set<number>()

  /** Removes and returns the books that were added, in batches of {@link batchSize}; only at the end also the rest. */
  takeBatches(isEnd: boolean): ReadonlyArray<Arr.NonEmptyReadonlyArray<Book>> {
    const rest = isEnd ? 0 : this.#books.length % batchSize
    return Arr.chunksOf(this.#books.splice(0, this.#books.length - rest), batchSize)
  }

  add(record: CsvRecords.CsvRecord): void {
    switch (record._tag) {
      case "Row":
        return this.#addRow(record)
      case "TooLong":
        this.#header ??= ""
        return this.#report(record.line, `expected a row of at most ${maxRowSize} bytes`)
      case "BrokenQuote":
        this.#header ??= ""
        return this.#report(record.line, `parsing stopped at an invalid quote: ${record.reason}`)
      case "NotUtf8":
        return this.#reportNotUtf8(record.line)
    }
  }

  /** The reason for which the file is rejected; undefined if it is accepted. */
  problem(): Pick<CatalogFileError, "reason" | "badLines"> | undefined {
    if (this.#header === undefined) return { reason: "the file is empty", badLines: [] }
    if (this.#header !== catalogRow.header && !this.#notUtf8.has(1)) {
      const reported = this.#badLines.find(({ line }) => line === 1)
      const first = reported ?? { line: 1, reason: catalogRow.formatCell(this.#header) }
      const others = this.#badLines.filter(({ line }) => line > 1 && this.#notUtf8.has(line))
      return { reason: `its header is not ${catalogRow.header}`, badLines: [first, ...others] }
    }
    if (this.#badLineCount > 0) return { reason: this.#summary(), badLines: this.#badLines }
    return this.bookCount === 0 ? { reason: "it contains no books", badLines: [] } : undefined
  }

  #summary(): string {
    const [count, reported, notUtf8] = [this.#badLineCount, this.#badLines.length, this.#notUtf8.size]
    if (notUtf8 === count) return "the file is not UTF-8"
    const omitted = count > reported ? `, of which the first ${reported} are listed` : ""
    const bad = `${count} ${count === 1 ? "line is" : "lines are"} invalid${omitted}`
    return notUtf8 === 0 ? bad : `the file is not UTF-8, and ${bad}`
  }

  #addRow({ cells, line, notUtf8 }: CsvRecords.CsvRecord & { readonly _tag: "Row" }): void {
    const isHeader = this.#header === undefined
    this.#header ??= cells.join(",")
    if (notUtf8 !== undefined) return this.#reportNotUtf8(notUtf8)
    const isBlank = cells.length === 1 && cells[0] === ""
    if (!isHeader && !isBlank) this.#addBook(cells, line)
  }

  #addBook(cells: ReadonlyArray<string>, line: number): void {
    const decoded = catalogRow.decode(cells)
    if (Result.isFailure(decoded)) return this.#report(line, decoded.failure)
    const book = decoded.success
    const otherLine = this.#lineOfId.get(book.id)
    if (otherLine !== undefined) return this.#report(line, `id: ${book.id} duplicates line ${otherLine}`)
    this.#lineOfId.set(book.id, line)
    this.bookCount++
    if (this.#badLineCount === 0) this.#books.push(book)
    const warning = catalogRow.warning(cells)
    if (warning === undefined) return
    this.warningCount++
    if (this.warnings.length < maxWarnings) this.warnings.push({ line, reason: warning })
  }

  #report(line: number, reason: string): void {
    this.#badLineCount++
    if (this.#reportSize > maxReportSize) return
    this.#reportSize += reason.length + badLineOverhead
    this.#badLines.push({ line, reason })
  }

  #reportNotUtf8(line: number): void {
    if (this.#reportSize <= maxReportSize) this.#notUtf8.add(line)
    this.#report(line, "bytes that are not UTF-8")
  }
}
