/**
 * Converts a row of the catalogue file to a book.
 */
import { Result, Schema, SchemaIssue } from "effect"

import { Book, maxAuthors, maxNameLength, maxTitleLength } from "../../domain/Book.ts"
import { quoteText } from "../../layers/config/quoteText.ts"
import * as LogTruncation from "../../layers/telemetry/LogTruncation.ts"

const columns = ["id", "title", "authors", "year", "isbn10", "categories"] as const

/** The first row of the file. */
export const header = columns.join(",")

/** The expected content of each column, for error messages. */
const expected: { readonly [Column in (typeof columns)[number]]: string } = {
  id: "a whole number from 1 to 2147483647",
  title: `a title of one line and at most ${maxTitleLength} characters`,
  authors: `one name or more, separated by commas, at most ${maxAuthors} of at most ${maxNameLength} characters`,
  year: "a whole number from -9999 to 9999 other than 0, or nothing",
  isbn10: "nine digits and then a digit or X, or nothing",
  categories: "known categories, each once, separated by semicolons"
}

const decodeBook = Schema.decodeUnknownResult(Book, { errors: "all" })
const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** The book of a row, or a message with the problem of each invalid cell. */
export const decode = (cells: ReadonlyArray<string>): Result.Result<Book, string> => {
  if (cells.length !== columns.length) {
    return Result.fail(`expected ${columns.length} columns, got ${cells.length}`)
  }
  const [id = "", title = "", authors = "", year = "", isbn10 = "", names = ""] = cells
  return decodeBook({
    id: toNumber(id),
    title: title.trim(),
    authors: authors.split(",").map((name) => name.trim()),
    ...(year === "" ? {} : { year: toNumber(year) }),
    ...(isbn10 === "" ? {} : { isbn10 }),
    categories: names.split(";")
  }).pipe(
    Result.mapError(({ issue }) => {
      const bad = new Set(formatIssue(issue).issues.map(({ path }) => path?.[0]))
      return columns
        .flatMap((column, index) =>
          bad.has(column) ? [`${column}: expected ${expected[column]}, got ${formatCell(cells[index] ?? "")}`] : []
        )
        .join("; ")
    })
  )
}

/** The warning about an accepted row, if any. */
export const warning = (cells: ReadonlyArray<string>): string | undefined => {
  const authors = cells[columns.indexOf("authors")] ?? ""
  return authors.includes(";") ? `authors: names are separated by commas, got ${formatCell(authors)}` : undefined
}

/** Formats a cell for a message: truncated, with invisible characters escaped. */
export const formatCell = (cell: string): string => quoteText(LogTruncation.text(cell, 200))

/** Parses the number in a cell. Other text is returned unchanged, and the schema rejects it. */
const toNumber = (cell: string): number | string => (/^-?[0-9]{1,10}$/.test(cell) ? Number(cell) : cell)
