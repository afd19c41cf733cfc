/**
 * A book as a row of the table `books`.
 */
import type { Book } from "../../domain/Book.ts"
import { categories as allCategories, type Category } from "../../domain/Category.ts"
import { foldWords } from "../../domain/foldWords.ts"

/** The columns that {@link fromRow} reads. */
export interface BookRow {
  readonly book_id: number
  readonly title: string
  /** A JSON array. */
  readonly authors: string
  readonly year: number | null
  readonly isbn10: string | null
  /** Names of categories, separated by semicolons. */
  readonly categories: string
}

/** The columns of a {@link BookRow}, for SELECT. */
export const bookColumns = "book_id, title, authors, year, isbn10, categories"

/** The row of a book of a catalogue. */
export const toRow = ({ authors, categories, id, isbn10, title, year }: Book, catalogId: number) => ({
  book_id: id,
  catalog_id: catalogId,
  title,
  authors: JSON.stringify(authors),
  year: year ?? null,
  isbn10: isbn10 ?? null,
  categories: categories.join(";"),
  folded_title: foldWords(title).join(" "),
  words: foldWords(`${title} ${authors.join(" ")}`).join(" ")
})

/** The book of a row that {@link toRow} made. Categories that this program does not know, because a newer one has them, are left out. */
export const fromRow = ({ authors, book_id, categories, isbn10, title, year }: BookRow): Book => ({
  id: book_id,
  title,
  authors: JSON.parse(authors) as Book["authors"],
  ...(year === null ? {} : { year }),
  ...(isbn10 === null ? {} : { isbn10 }),
  categories: categories.split(";").filter(isCategory) as unknown as Book["categories"]
})

const names: ReadonlySet<string> = new Set(allCategories)

const isCategory = (name: string): name is Category => names.has(name)
