/**
 * Books for tests of the encoding.
 */
import { Arbitrary, Array as Arr, Effect, Schema } from "effect"

import { Book } from "../../../src/domain/Book.ts"
import { BookCatalog, type Shelf } from "../../../src/domain/BookCatalog.ts"
import { EncodedCatalog } from "../../../src/recommendations/catalog/EncodedCatalog.ts"

/** A plain copy of a book, for comparisons. */
export const plain = ({ authors, categories, id, isbn10, title, year }: Book): Book => ({
  id,
  title,
  authors,
  ...(year === undefined ? {} : { year }),
  ...(isbn10 === undefined ? {} : { isbn10 }),
  categories
})

/** Plain copies of the books of a shelf. */
export const plainBooks = ({ at, size }: Shelf): ReadonlyArray<Book> =>
  Array.from({ length: size }, (_, position) => plain(at(position)))

/** Any books of well-formed text, which is all that UTF-8 can contain; some with texts of many kilobytes. */
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

/** A catalogue of encoded books. */
export const encodedCatalog = (books: ReadonlyArray<Book>): BookCatalog["Service"] => {
  const catalog = new EncodedCatalog()
  for (const book of books) catalog.add(book)
  const [bookCatalog] = BookCatalog.make(catalog.toShelves())
  return bookCatalog
}

/** The same books, encoded. */
export const encoded = (books: ReadonlyArray<Book>): ReadonlyArray<Book> => {
  const { at, size } = Effect.runSync(encodedCatalog(books).allBooks)
  return Array.from({ length: size }, (_, position) => at(position))
}
