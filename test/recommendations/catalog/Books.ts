/**
 * Books to store, and to compare.
 */
import { Arbitrary, Array as Arr, Schema } from "effect"

import { Book } from "../../../src/domain/Book.ts"
import * as BookStore from "../../../src/recommendations/catalog/BookStore.ts"

/** The same book as an object of its own, whatever keeps it. */
export const plain = ({ authors, categories, id, isbn10, title, year }: Book): Book => ({
  id,
  title,
  authors,
  ...(year === undefined ? {} : { year }),
  ...(isbn10 === undefined ? {} : { isbn10 }),
  categories
})

/** Any books, of whole characters, as all that has been UTF-8 is; some with texts of many kilobytes. */
export const arbitraryBooks = Arbitrary.array(
  Arbitrary.map(
    Arbitrary.all({ book: Arbitrary.schema(Book), times: Arbitrary.schema(Schema.Literals([1, 1, 1, 40, 9000])) }),
    ({ book, times }): Book => ({
      ...book,
      title: book.title.toWellFormed().repeat(times),
      authors: Arr.map(book.authors, (name) => name.toWellFormed())
    })
  ),
  { minLength: 1, maxLength: 12 }
)

/** The same books as a store has them. */
export const stored = (books: ReadonlyArray<Book>): ReadonlyArray<Book> => {
  const store = BookStore.make()
  for (const book of books) store.add(book)
  const { allBooks } = store.finish()
  return Array.from({ length: allBooks.size }, (_, position) => allBooks.at(position))
}
