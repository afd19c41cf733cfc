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

/** Books that are kept elsewhere, where each is found by a number. */
export interface Stock {
  readonly size: number
  /** The number, from 0 to 2^32 - 1, of the book at a position from 0 to `size - 1`. */
  readonly keyAt: (position: number) => number
  readonly byKey: (key: number) => Book
  /** The categories of the book at a position. */
  readonly categoriesAt: (position: number) => ReadonlyArray<Category>
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
  /** A catalogue of a stock, indexed once: 4 bytes for each book and category. */
  static readonly fromStock = (stock: Stock): BookCatalog["Service"] => {
    const { byKey } = stock
    const shelves = new Map<string, Effect.Effect<Shelf>>()
    const summaries: Array<CategorySummary> = []
    for (const [category, keys] of keysByCategory(stock)) {
      if (keys.length > 0) {
        // each position of the shelf has a key
        shelves.set(category, Effect.succeed({ size: keys.length, at: (position) => byKey(keys[position]!) }))
        summaries.push({ category, bookCount: keys.length })
      }
    }
    return BookCatalog.of({
      allBooks: Effect.succeed(allOf(stock)),
      shelf: (category) => shelves.get(category) ?? Effect.fail(new CategoryNotFound({ category })),
      summaries: Effect.succeed(summaries)
    })
  }

  /** A catalogue in memory. */
  static readonly fromBooks = (books: ReadonlyArray<Book>): BookCatalog["Service"] =>
    BookCatalog.fromStock({
      size: books.length,
      keyAt: (position) => position,
      byKey: (key) => books[key]!,
      categoriesAt: (position) => books[position]!.categories
    })

  static readonly layerMemory = (books: ReadonlyArray<Book>) => Layer.succeed(BookCatalog, BookCatalog.fromBooks(books))
}

/** All books of a stock. */
export const allOf = ({ byKey, keyAt, size }: Stock): Shelf => ({ size, at: (position) => byKey(keyAt(position)) })

/** The keys of the books of each category, in their order. */
const keysByCategory = ({ categoriesAt, keyAt, size }: Stock): ReadonlyMap<Category, Uint32Array> => {
  const counts = new Map<Category, number>(categories.map((category) => [category, 0]))
  for (let position = 0; position < size; position++) {
    for (const category of categoriesAt(position)) counts.set(category, counts.get(category)! + 1)
  }
  const keys = new Map(categories.map((category) => [category, new Uint32Array(counts.get(category)!)]))
  const filled = new Map<Category, number>(categories.map((category) => [category, 0]))
  for (let position = 0; position < size; position++) {
    for (const category of categoriesAt(position)) {
      const at = filled.get(category)!
      keys.get(category)![at] = keyAt(position)
      filled.set(category, at + 1)
    }
  }
  return keys
}
