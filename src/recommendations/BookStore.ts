/**
 * Many books in little memory: as bytes in pages, and where each begins. Of a catalogue of real books each takes 96 bytes: 80 of
 * its own, 8 of where it is, and 4 on each of its shelves. An object a book, a million of them, took ten times as much.
 */
import type { Book } from "../domain/Book.ts"
import { BookCatalog, type Shelf } from "../domain/BookCatalog.ts"
import { categories, type Category } from "../domain/Category.ts"
import { WireWriter } from "../layers/WireWriter.ts"
import * as StoredBook from "./StoredBook.ts"

/** Where a page ends, in bytes: with the first book that reaches so far. */
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
  // of each book: its page, where it begins there, and its categories
  let page = new Uint32Array(1024)
  let start = new Uint32Array(1024)
  let shelves = new Uint32Array(1024)

  return {
    add: (book) => {
      if (size === page.length) {
        page = resize(page, size * 2)
        start = resize(start, size * 2)
        shelves = resize(shelves, size * 2)
      }
      page[size] = pages.length
      start[size] = writer.length
      shelves[size] = toBits(book.categories)
      size++
      StoredBook.write(writer, book)
      if (writer.length >= pageSize) pages.push(writer.take())
    },
    finish: () => {
      pages.push(writer.take())
      const allBooks = shelfOf(pages, resize(page, size), resize(start, size))
      return { allBooks, catalog: BookCatalog.fromShelf(allBooks, (position) => fromBits(shelves[position]!)) }
    }
  }
}

/** Keeps what it is given and nothing else, as a function within {@link make} would. */
const shelfOf = (pages: ReadonlyArray<Buffer>, pageOf: Uint32Array, startOf: Uint32Array): Shelf => ({
  size: pageOf.length,
  at: (position) => {
    const number = pageOf[position]!
    const page = pages[number]!
    // the next book begins where this one ends, unless that is on another page
    const end = pageOf[position + 1] === number ? startOf[position + 1]! : page.length
    return new StoredBook.StoredBook(page, startOf[position]!, end)
  }
})

/** The same numbers, in more room or less. */
const resize = (numbers: Uint32Array<ArrayBuffer>, length: number) =>
  new Uint32Array(numbers.buffer.transfer(length * Uint32Array.BYTES_PER_ELEMENT))

/** Categories as a number: a bit of each. */
const toBits = (names: ReadonlyArray<Category>): number =>
  names.reduce((bits, category) => bits | bitOf.get(category)!, 0)

const bitOf = new Map(categories.map((category, index) => [category, 1 << index]))

const fromBits = (bits: number): ReadonlyArray<Category> => categories.filter((_, index) => (bits & (1 << index)) !== 0)
