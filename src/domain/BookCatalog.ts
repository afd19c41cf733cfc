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
  /** A catalogue of books that are kept elsewhere, indexed once: 4 bytes for each book and category. */
  static readonly fromShelf = (
    allBooks: Shelf,
    /** The categories of the book at a position of `allBooks`. */
    categoriesAt: (position: number) => ReadonlyArray<Category>
  ): BookCatalog["Service"] => {
    const shelves = new Map<string, Effect.Effect<Shelf>>()
    const summaries: Array<CategorySummary> = []
    for (const [category, positions] of indexByCategory(allBooks.size, categoriesAt)) {
      if (positions.length > 0) {
        // the positions are those of `allBooks`, so each of them is there
        shelves.set(
          category,
          Effect.succeed({ size: positions.length, at: (position) => allBooks.at(positions[position]!) })
        )
        summaries.push({ category, bookCount: positions.length })
      }
    }
    return BookCatalog.of({
      allBooks: Effect.succeed(allBooks),
      shelf: (category) => shelves.get(category) ?? Effect.fail(new CategoryNotFound({ category })),
      summaries: Effect.succeed(summaries)
    })
  }

  /** A catalogue in memory. */
  static readonly fromBooks = (books: ReadonlyArray<Book>): BookCatalog["Service"] =>
    BookCatalog.fromShelf(
      { size: books.length, at: (position) => books[position]! },
      (position) => books[position]!.categories
    )

  static readonly layerMemory = (books: ReadonlyArray<Book>) => Layer.succeed(BookCatalog, BookCatalog.fromBooks(books))
}

/** At which of the positions 0 to `size - 1` the books of each category are. */
const indexByCategory = (
  size: number,
  categoriesAt: (position: number) => ReadonlyArray<Category>
): ReadonlyMap<Category, Uint32Array> => {
  const counts = new Map<Category, number>(categories.map((category) => [category, 0]))
  for (let position = 0; position < size; position++) {
    for (const category of categoriesAt(position)) counts.set(category, counts.get(category)! + 1)
  }
  const index = new Map(categories.map((category) => [category, new Uint32Array(counts.get(category)!)]))
  const filled = new Map<Category, number>(categories.map((category) => [category, 0]))
  for (let position = 0; position < size; position++) {
    for (const category of categoriesAt(position)) {
      const at = filled.get(category)!
      index.get(category)![at] = position
      filled.set(category, at + 1)
    }
  }
  return index
}
