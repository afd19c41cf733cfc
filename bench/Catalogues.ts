/**
 * The catalogues of the benchmark.
 *
 * All books of a catalogue have the same encoded size, so that the total size of the answers, which h2load reports, shows whether every
 * answer had the right number of books.
 */

import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

import protobuf from "protobufjs"

const messageType = (file: string, name: string): protobuf.Type =>
  protobuf.loadSync(fileURLToPath(new URL(`../proto/${file}`, import.meta.url))).lookupType(name)

const response = messageType(
  "onlinebooks/recommendations/v1/recommendations.proto",
  "onlinebooks.recommendations.v1.RecommendResponse"
)
const firstResponse = messageType("recommendations.proto", "RecommendationResponse")

const header = "id,title,authors,year,isbn10,categories"

/** A row of a catalogue file, with unquoted cells. */
interface Row {
  readonly id: string
  readonly title: string
  readonly authors: string
  readonly year: string
  readonly isbn10: string
  readonly categories: string
}

export interface Catalogue {
  /** The content of the file. */
  readonly text: string
  /** The size of each book in a response, in bytes. */
  readonly bookSize: number
}

/** The size of an answer with a number of books, in bytes, with the five of the gRPC frame. */
export const sizeOfAnswer = ({ bookSize }: Catalogue, books: number): number => 5 + books * bookSize

const sizeOf = ({ authors, categories, id, isbn10, title, year }: Row): number =>
  response
    .encode(
      response.fromObject({
        books: [
          {
            id: Number(id),
            title,
            authors: authors.split(",").map((author) => author.trim()),
            ...(year === "" ? {} : { year: Number(year) }),
            isbn10,
            categories: categories.split(";").map((name) => `BOOK_CATEGORY_${name}`)
          }
        ]
      })
    )
    .finish().length

const cell = (text: string): string => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)

/** The size of a book in a response of the first API. */
const sizeOfFirst = ({ id, title }: Row): number =>
  firstResponse.encode(firstResponse.fromObject({ recommendations: [{ id: Number(id), title }] })).finish().length

/** Cuts or pads titles until every book has the average size. */
const equalizeSizes = (rows: ReadonlyArray<Row>, sizeIn: (row: Row) => number): Catalogue => {
  const bookSize = Math.round(rows.reduce((sum, row) => sum + sizeIn(row), 0) / rows.length)
  const lines = rows.map((row) => {
    // authors are cut only when one character of the title is left
    let title = row.title.replaceAll(/[^\x20-\x7e]/g, "?")
    let { authors } = row
    for (;;) {
      const size = sizeIn({ ...row, title, authors })
      if (size === bookSize) break
      if (size < bookSize) title += ".".repeat(bookSize - size)
      // a trailing space would be trimmed
      else if (title.length > 1) {
        title = title.slice(0, Math.max(1, title.length - (size - bookSize))).replace(/ $/, ".")
      } else authors = authors.slice(0, -1)
    }
    return [row.id, cell(title), cell(authors), row.year, row.isbn10, row.categories].join(",")
  })
  return { text: [header, ...lines, ""].join("\n"), bookSize }
}

/** The catalogue that the project ships with. */
export const shippedFile = fileURLToPath(new URL("../data/books.csv", import.meta.url))

const shippedRows = (): ReadonlyArray<Row> => {
  const [, ...lines] = readFileSync(shippedFile, "utf8").trimEnd().split("\n")
  return lines.map((line) => {
    const cells = Array.from(line.matchAll(/("(?:[^"]|"")*"|[^,]*)(?:,|$)/g), ([, found = ""]) =>
      found.startsWith('"') ? found.slice(1, -1).replaceAll('""', '"') : found
    )
    const [id = "", title = "", authors = "", year = "", isbn10 = "", categories = ""] = cells
    // some servers encode an empty ISBN, others leave it out
    return { id, title, authors, year, isbn10: isbn10 || "0123456789", categories }
  })
}

/** The shipped catalogue, with books of one size in responses of today's API. */
export const shipped = (): Catalogue => equalizeSizes(shippedRows(), sizeOf)

/** The shipped catalogue, with books of one size in responses of the first API. */
export const shippedForFirst = (): Catalogue => equalizeSizes(shippedRows(), sizeOfFirst)

const categories =
  "MYSTERY SCIENCE_FICTION SELF_HELP FANTASY ROMANCE THRILLER HISTORICAL_FICTION CLASSICS HISTORY".split(" ")

/** A catalogue of generated books, with titles and authors of realistic length. */
export const madeUp = (count: number): Catalogue => {
  // ids of seven digits have the same encoded size
  const lines = Array.from({ length: count }, (_, index) => {
    const id = 3_000_000 + index
    const title = `The ${id % 97 < 50 ? "Long" : "Last"} Book of ${String(id).padStart(8, "0")}`
    const authors = `Author ${String(id % 997).padStart(4, "0")}`
    // the numbers of these categories have one byte each
    return `${id},${title},${authors},1${900 + (id % 100)},0123456789,${categories[id % 9]};${categories[(id + 4) % 9]}`
  })
  const [id = "", title = "", authors = "", year = "", isbn10 = "", shelves = ""] = lines[0]?.split(",") ?? []
  return {
    text: [header, ...lines, ""].join("\n"),
    bookSize: sizeOf({ id, title, authors, year, isbn10, categories: shelves })
  }
}
