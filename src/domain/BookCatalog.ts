/**
 * The shop's catalogue: all books, and the shelf of each category.
 */
import { Context, Effect, Layer, Schema } from "effect"

import type { Book } from "./Book.ts"
import { categories, type Category } from "./Category.ts"

/** The category is unknown or has no books. `category` is the name that was requested. */
export class CategoryNotFound extends Schema.TaggedError<CategoryNotFound>()("CategoryNotFound", {
  category: Schema.String
}) {}

/** The catalogue cannot be reached at the moment. The operation can be retried. */
export class CatalogUnavailable extends Schema.TaggedError<CatalogUnavailable>()("CatalogUnavailable", {
  cause: Schema.Defect()
}) {}

/** A list of books that creates a book only when it is read, so that a large catalogue can store books compactly. */
export interface Shelf {
  readonly size: number
  /** The book at a position from 0 to `size - 1`. */
  readonly at: (position: number) => Book
}

/** A category, and the number of its books: 1 or more. */
export interface CategorySummary {
  readonly category: Category
  readonly bookCount: number
}

export class BookCatalog extends Context.Service<
  BookCatalog,
  {
    /** Every book of the shop, once. */
    readonly allBooks: Effect.Effect<Shelf, CatalogUnavailable>
    /** The books of the category with a name, such as "MYSTERY". */
    readonly shelf: (category: string) => Effect.Effect<Shelf, CategoryNotFound | CatalogUnavailable>
    /** The categories that have books, in the order of the menu. */
    readonly summaries: Effect.Effect<ReadonlyArray<CategorySummary>, CatalogUnavailable>
  }
>()("onlinebooks/domain/BookCatalog") {
  /** A catalogue of shelves that are in memory. A category without a shelf, or with an empty one, is not found. */
  static readonly make = (allBooks: Shelf, shelves: ReadonlyMap<Category, Shelf>): BookCatalog["Service"] => {
    const byName = new Map<string, Effect.Effect<Shelf>>()
    const summaries: Array<CategorySummary> = []
    for (const category of categories) {
      const shelf = shelves.get(category)
      if (shelf === undefined || shelf.size === 0) continue
      byName.set(category, Effect.succeed(shelf))
      summaries.push({ category, bookCount: shelf.size })
    }
    return BookCatalog.of({
      allBooks: Effect.succeed(allBooks),
      shelf: (category) => byName.get(category) ?? Effect.fail(new CategoryNotFound({ category })),
      summaries: Effect.succeed(summaries)
    })
  }

  /** A catalogue of an array of books. */
  static readonly layerMemory = (books: ReadonlyArray<Book>) =>
    Layer.succeed(
      BookCatalog,
      BookCatalog.make(
        shelfOf(books),
        new Map(
          categories.map((category) => [category, shelfOf(books.filter((book) => book.categories.includes(category)))])
        )
      )
    )
}

const shelfOf = (books: ReadonlyArray<Book>): Shelf => ({ size: books.length, at: (position) => books[position]! })
