import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import { BookCatalog, type Shelf } from "../../../src/domain/BookCatalog.ts"
import { categories } from "../../../src/domain/Category.ts"
import * as BookStore from "../../../src/recommendations/catalog/BookStore.ts"
import { book } from "../../domain/Books.ts"
import { plain } from "./Books.ts"

const booksOf = ({ at, size }: Shelf) => Array.from({ length: size }, (_, position) => plain(at(position)))

/** Of one page, of several, and with books larger than a page. */
const catalogues = [
  { what: "no books", books: [] },
  { what: "one book", books: [book(1)] },
  {
    what: "10,000 books",
    books: Array.from({ length: 10_000 }, (_, index) =>
      book(index + 1, categories[index % 13], categories[(index * 7 + 3) % 13]!)
    ).map((book) => ({ ...book, categories: [...new Set(book.categories)] as never }))
  },
  {
    what: "books of 100,000 bytes",
    books: [book(1), { ...book(2), title: "é".repeat(50_000) }, book(3), { ...book(4), title: "a".repeat(100_000) }]
  }
]

describe("a store", () => {
  it.effect.each(catalogues)("of $what is the catalogue that they are in memory", ({ books }) =>
    Effect.gen(function* () {
      const store = BookStore.make()
      for (const book of books) store.add(book)
      const { allBooks, catalog } = store.finish()
      const expected = BookCatalog.fromBooks(books)
      assert.deepStrictEqual(booksOf(allBooks), booksOf(yield* expected.allBooks))
      assert.deepStrictEqual(booksOf(yield* catalog.allBooks), booksOf(yield* expected.allBooks))
      const summaries = yield* catalog.summaries
      assert.deepStrictEqual(summaries, yield* expected.summaries)
      for (const { category } of summaries) {
        assert.deepStrictEqual(booksOf(yield* catalog.shelf(category)), booksOf(yield* expected.shelf(category)))
      }
    })
  )
})
