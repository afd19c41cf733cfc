/**
 * The catalogue as a CSV file: UTF-8 (a byte order mark is allowed), with the header `id,title,authors,year,isbn10,categories`. Authors
 * are separated by commas inside their field, categories by semicolons; the year and the ISBN may be empty.
 *
 * The file is read once, at start-up. An invalid file is rejected as a whole, with an error for each invalid row.
 */
import { Config, Duration, Effect, type FileSystem, Layer, Result, Schema } from "effect"

import { BookCatalog } from "../../domain/BookCatalog.ts"
import { ProjectRoot } from "../../layers/config/ProjectRoot.ts"
import { quoteText } from "../../layers/config/quoteText.ts"
import * as Setting from "../../layers/config/Setting.ts"
import * as ObservableMetric from "../../layers/telemetry/ObservableMetric.ts"
import * as catalogRow from "./catalogRow.ts"
import * as CsvRecords from "./CsvRecords.ts"
import { EncodedCatalog } from "./EncodedCatalog.ts"

/** A problem in a line; lines are counted from 1. */
const BadLine = Schema.Struct({ line: Schema.Int, reason: Schema.String })
type BadLine = typeof BadLine.Type

/** The file cannot be served. The message has one line for each problem. */
export class CatalogFileError extends Schema.TaggedError<CatalogFileError>()("CatalogFileError", {
  path: Schema.String,
  /** The problem of the whole file, or the number of invalid lines. */
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
  /** The maximum size of the file, in bytes. */
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

/** The maximum size of a row, in bytes. */
const maxRowSize = 65_536

/** The maximum memory of reported bad lines, in bytes. Further ones are only counted. */
const maxReportSize = 16_777_216

/** The approximate overhead of a reported bad line, in bytes. */
const badLineOverhead = 100

/** The maximum number of logged warnings. Further ones are only counted. */
const maxWarnings = 20

/** The books of the file of {@link settings}. */
export const layer = Layer.effect(
  BookCatalog,
  Effect.gen(function* () {
    const { maxSize, path } = yield* settings
    const [elapsed, { catalog, warningCount, warnings }] = yield* Effect.timed(
      read((yield* ProjectRoot).resolve(path), { maxSize })
    )
    for (const { line, reason } of warnings) {
      yield* Effect.annotateLogs(Effect.logWarning("Suspicious row in the catalogue"), { path, line, reason })
    }
    const suppressed = warningCount - warnings.length
    if (suppressed > 0) {
      yield* Effect.annotateLogs(Effect.logWarning(`${suppressed} further warnings about the catalogue suppressed`), {
        path
      })
    }
    yield* ObservableMetric.gauge("catalog_books", "Books in the catalogue", () => catalog.size)
    yield* ObservableMetric.gauge("catalog_load_duration_seconds", "Time to load the catalogue at start-up", () =>
      Duration.toSeconds(elapsed)
    )
    yield* Effect.annotateLogs(Effect.logInfo("Catalogue loaded"), {
      path,
      books: catalog.size,
      durationMs: Math.round(Duration.toMillis(elapsed))
    })
    return catalog.toBookCatalog()
  })
)

/** Reads the books of a file, in the order of its rows. */
export const read = Effect.fnUntraced(function* (
  path: string,
  { maxSize = Infinity }: { readonly maxSize?: number } = {}
): Effect.fn.Return<Reading, CatalogFileError, FileSystem.FileSystem> {
  const reading = new Reading()
  yield* CsvRecords.forEach(path, { fileSize: maxSize, recordSize: maxRowSize }, (record) => reading.add(record)).pipe(
    Effect.mapError(
      (error) =>
        new CatalogFileError({
          path,
          reason:
            error._tag === "UnsuitableFile"
              ? unsuitable(error)
              : (unreadable[error.reason._tag] ?? `the file cannot be read (${error.reason.message})`),
          badLines: []
        })
    )
  )
  const problem = reading.problem()
  return problem === undefined ? reading : yield* new CatalogFileError({ path, ...problem })
})

const unreadable: { readonly [tag: string]: string } = {
  NotFound: "there is no such file",
  PermissionDenied: "this user may not read the file"
}

const unsuitable = ({ reason }: CsvRecords.UnsuitableFile): string =>
  reason._tag === "TooLarge"
    ? `the file has more than the ${reason.maximum} bytes of CATALOG_MAX_SIZE`
    : `it is not a regular file (${reason.type})`

/** The books of the rows that were read, and their problems. */
class Reading {
  readonly catalog = new EncodedCatalog()
  /** The first warnings about rows that are accepted. */
  readonly warnings: Array<BadLine> = []
  warningCount = 0
  #header: string | undefined
  readonly #lineOfId = new Map<number, number>()
  readonly #badLines: Array<BadLine> = []
  #badLineCount = 0
  #reportSize = 0
  /** The reported lines that are not UTF-8. */
  readonly #notUtf8 = new Set<number>()

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
    return this.catalog.size === 0 ? { reason: "it contains no books", badLines: [] } : undefined
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
    this.catalog.add(book)
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
