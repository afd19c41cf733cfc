/**
 * The books the shop has, shelf by shelf.
 */
import { Context, Effect, Layer, Schema } from "effect"

import type { Book } from "./Book.ts"
import { categories, type Category } from "./Category.ts"

/** No shelf has that name, or it is empty. `category` is the name as it was asked for. */
export class CategoryNotFound extends Schema.TaggedError<CategoryNotFound>()("CategoryNotFound", {
  category: Schema.String
}) {}

/** The catalogue cannot be reached just now; asking again later may help. */
export class CatalogUnavailable extends Schema.TaggedError<CatalogUnavailable>()("CatalogUnavailable", {
  cause: Schema.Defect()
}) {}

/** Books that can be picked by position, however many they are: never a copy of them. */
export interface Shelf {
  /** How many books stand here. */
  readonly size: number
  /** The book at a position from 0 to `size - 1`. */
  readonly at: (position: number) => Book
}

/** A category and how many books it holds, 1 and up. */
export interface CategorySummary {
  readonly category: Category
  readonly bookCount: number
}

export class BookCatalog extends Context.Service<
  BookCatalog,
  {
    /** Every book of the shop, each once. */
    readonly allBooks: Effect.Effect<Shelf, CatalogUnavailable>
    /** The shelf of the category with that name, such as "MYSTERY". */
    readonly shelf: (category: string) => Effect.Effect<Shelf, CategoryNotFound | CatalogUnavailable>
    /** The categories that have books, in the order of the menu. */
    readonly summaries: Effect.Effect<ReadonlyArray<CategorySummary>, CatalogUnavailable>
  }
>()("onlinebooks/domain/BookCatalog") {
  /** A catalogue in memory, indexed once: 4 bytes for each book and category beside the books themselves. */
  static readonly fromBooks = (books: ReadonlyArray<Book>): BookCatalog["Service"] => {
    const shelves = new Map<string, Effect.Effect<Shelf>>()
    const summaries: Array<CategorySummary> = []
    for (const [category, positions] of indexByCategory(books)) {
      if (positions.length > 0) {
        // the positions are those of `books`, so each of them is there
        shelves.set(category, Effect.succeed({ size: positions.length, at: (i) => books[positions[i]!]! }))
        summaries.push({ category, bookCount: positions.length })
      }
    }
    return BookCatalog.of({
      allBooks: Effect.succeed({ size: books.length, at: (i) => books[i]! }),
      shelf: (category) => shelves.get(category) ?? Effect.fail(new CategoryNotFound({ category })),
      summaries: Effect.succeed(summaries)
    })
  }

  static readonly layerMemory = (books: ReadonlyArray<Book>) => Layer.succeed(BookCatalog, BookCatalog.fromBooks(books))
}

/** Where in `books` the books of each category are. */
const indexByCategory = (books: ReadonlyArray<Book>): ReadonlyMap<Category, Uint32Array> => {
  const counts = new Map<Category, number>(categories.map((category) => [category, 0]))
  for (const book of books) {
    for (const category of book.categories) counts.set(category, counts.get(category)! + 1)
  }
  const index = new Map(categories.map((category) => [category, new Uint32Array(counts.get(category)!)]))
  const filled = new Map<Category, number>(categories.map((category) => [category, 0]))
  books.forEach((book, position) => {
    for (const category of book.categories) {
      const at = filled.get(category)!
      index.get(category)![at] = position
      filled.set(category, at + 1)
    }
  })
  return index
}
