/**
 * Many books in little memory: as bytes one after another, and where each begins. Of a catalogue of real books each takes 92 bytes: 80
 * of its own, 4 of where it is, and 4 on each of its shelves. An object a book, a million of them, took ten times as much.
 *
 * What is drawn from a million books is in no cache of the processor, and each piece of memory on the way to a book is waited for
 * (npm run bench): so there is one for all books, in which a shelf has where each of its own begins.
 */
import type { Book } from "../../domain/Book.ts"
import { allOf, BookCatalog, type Shelf, type Stock } from "../../domain/BookCatalog.ts"
import { categories, type Category } from "../../domain/Category.ts"
import { WireWriter } from "../../layers/grpc/WireWriter.ts"
import * as CategorySets from "./CategorySets.ts"
import * as StoredBook from "./StoredBook.ts"

/** How many bytes are written before they are put away, while books are added. */
const pageSize = 65_536

/** Books that are added one after another. */
export interface BookStore {
  readonly add: (book: Book) => void
  /** All that have been added, in that order, as the catalogue that they are; there are none added after it. */
  readonly finish: () => { readonly allBooks: Shelf; readonly catalog: BookCatalog["Service"] }
}

export const make = (): BookStore => {
  const pages: Array<Buffer> = []
  const writer = new WireWriter(pageSize * 2)
  let size = 0
  /** Of the pages that are full. */
  let length = 0
  const categorySets = CategorySets.make(categories)
  // of each book: where it begins, and its set of categories
  let starts = new Uint32Array(1024)
  let shelves = new Uint32Array(1024)

  const putAway = () => {
    const page = writer.take()
    pages.push(page)
    length += page.length
  }

  return {
    add: (book) => {
      if (size === starts.length) {
        starts = resize(starts, starts.length * 2)
        shelves = resize(shelves, starts.length)
      }
      starts[size] = length + writer.length
      shelves[size] = categorySets.add(book.categories)
      size++
      StoredBook.write(writer, book)
      if (writer.length >= pageSize) putAway()
    },
    finish: () => {
      putAway()
      const stock = stockOf(join(pages, length), resize(starts, size), resize(shelves, size), categorySets)
      return { allBooks: allOf(stock), catalog: BookCatalog.fromStock(stock) }
    }
  }
}

/** Keeps what it is given and nothing else, as functions within {@link make} would. */
const stockOf = (
  bytes: Buffer,
  starts: Uint32Array,
  shelves: Uint32Array,
  categorySets: CategorySets.CategorySets<Category>
): Stock => ({
  size: starts.length,
  keyAt: (position) => starts[position]!,
  byKey: (start) => StoredBook.at(bytes, start),
  categoriesAt: (position) => categorySets.get(shelves[position]!)
})

/** One piece of many, which are given up one by one. */
const join = (pages: Array<Buffer>, length: number): Buffer => {
  const whole = Buffer.allocUnsafeSlow(length)
  let end = length
  for (let page = pages.pop(); page !== undefined; page = pages.pop()) {
    end -= page.length
    whole.set(page, end)
  }
  return whole
}

/** The same numbers, in more room or less. */
const resize = (numbers: Uint32Array<ArrayBuffer>, length: number) =>
  new Uint32Array(numbers.buffer.transfer(length * Uint32Array.BYTES_PER_ELEMENT))
