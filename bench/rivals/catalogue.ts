/**
 * The catalogue of the contestants in TypeScript, written as in a small service without Effect.
 */
import { readFileSync } from "node:fs"

/** A book, with the fields of its message. */
export interface Row {
  readonly id: number
  readonly title: string
  readonly authors: Array<string>
  readonly year?: number
  readonly isbn10: string
  /** The numbers of the enum. */
  readonly categories: Array<number>
}

export interface Catalogue {
  /** The categories that have books, in the order of the enum. */
  readonly byCategory: ReadonlyMap<number, ReadonlyArray<Row>>
  readonly all: ReadonlyArray<Row>
}

/** In the order of the enum, which begins with 1. */
const categoryNames = [
  "MYSTERY",
  "SCIENCE_FICTION",
  "SELF_HELP",
  "FANTASY",
  "ROMANCE",
  "THRILLER",
  "HISTORICAL_FICTION",
  "CLASSICS",
  "HISTORY",
  "BIOGRAPHY",
  "YOUNG_ADULT",
  "CHILDREN",
  "HORROR"
]

/** Reads a catalogue. */
export const load = (path: string): Catalogue => group(parse(readFileSync(path, "utf8")))

/** The books of a catalogue: a header, then `id,title,authors,year,isbn10,categories`. */
export const parse = (text: string): ReadonlyArray<Row> => {
  const [, ...lines] = parseCsv(text)
  return lines.map(([id, title = "", authors = "", year, isbn10 = "", categories = ""]): Row => ({
    id: Number(id),
    title,
    authors: authors.split(",").map((author) => author.trim()),
    ...(year ? { year: Number(year) } : {}),
    isbn10,
    categories: categories.split(";").map((name) => categoryNames.indexOf(name) + 1)
  }))
}

/** Groups books by their categories. */
export const group = (all: ReadonlyArray<Row>): Catalogue => {
  const shelves = categoryNames.map(
    (_, index) => [index + 1, all.filter(({ categories }) => categories.includes(index + 1))] as const
  )
  return { all, byCategory: new Map(shelves.filter(([, books]) => books.length > 0)) }
}

/** Draws distinct books in random order: a Fisher-Yates shuffle that stops after `count` and does not change `books`. */
export const draw = (books: ReadonlyArray<Row>, count: number): Array<Row> => {
  const moved = new Map<number, number>()
  const drawn: Array<Row> = []
  for (let next = 0; next < Math.min(count, books.length); next++) {
    const position = next + Math.floor(Math.random() * (books.length - next))
    const book = books[moved.get(position) ?? position]
    if (book !== undefined) drawn.push(book)
    moved.set(position, moved.get(next) ?? next)
  }
  return drawn
}

/** Parses CSV: quoted cells may hold commas, line breaks, and doubled quotes. */
const parseCsv = (text: string): Array<Array<string>> => {
  const rows: Array<Array<string>> = []
  let row: Array<string> = []
  for (const [, quoted, plain = "", end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r?\n|$)/g)) {
    row.push(quoted?.replaceAll('""', '"') ?? plain)
    if (end === ",") continue
    if (row.length > 1) rows.push(row)
    row = []
  }
  return rows
}
