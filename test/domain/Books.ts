/**
 * Books for tests.
 */
import type { Book } from "../../src/domain/Book.ts"
import type { Category } from "../../src/domain/Category.ts"

/** A book whose texts derive from its id. */
export const book = (id: number, category: Category = "MYSTERY", ...others: ReadonlyArray<Category>): Book => ({
  id,
  title: `Book ${id}`,
  authors: [`Author ${id}`],
  categories: [category, ...others]
})

/** Books 1 to `count` of one category. */
export const books = (count: number, category: Category = "MYSTERY"): ReadonlyArray<Book> =>
  Array.from({ length: count }, (_, index) => book(index + 1, category))
