/**
 * The shop's catalogue: all books, and the shelf of each category.
 */
import { Context, Effect, Layer, Schema } from "effect"

import { type Book, maxBookId } from "./Book.ts"
import { categories, type Category } from "./Category.ts"
import { InvalidQuery, type Violation } from "./InvalidQuery.ts"
import * as Page from "./Page.ts"

/** The catalogue has no book with the id. */
export class BookNotFound extends Schema.TaggedError<BookNotFound>()("BookNotFound", {
  bookId: Schema.Int
}) {}

/** The category is unknown or has no books. `category` is the name that was requested. */
export class CategoryNotFound extends Schema.TaggedError<CategoryNotFound>()("CategoryNotFound", {
  category: Schema.String
}) {}

/** The catalogue cannot be reached at the moment. The operation can be retried. */
export class CatalogUnavailable extends Schema.TaggedError<CatalogUnavailable>()("CatalogUnavailable", {
  cause: Schema.Defect()
}) {
  override get message() {
    return this.cause instanceof Error ? this.cause.message : String(this.cause)
  }
}

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

/** The books of one catalogue. */
export interface Shelves {
  /** Every book of the shop, once, in ascending order of their ids. */
  readonly allBooks: Shelf
  /** The books of each category. A category without books may be missing. */
  readonly byCategory: ReadonlyMap<Category, Shelf>
}

/** Consecutive books of a list. */
export interface BookPage {
  readonly books: ReadonlyArray<Book>
  /** Empty on the last page. */
  readonly nextPageToken: string
}

/** Each operation answers from one catalogue, even while that is replaced. */
export class BookCatalog extends Context.Service<
  BookCatalog,
  {
    /** Every book of the shop, once, in ascending order of their ids. */
    readonly allBooks: Effect.Effect<Shelf, CatalogUnavailable>
    /** The books of the category with a name, such as "MYSTERY". */
    readonly shelf: (category: string) => Effect.Effect<Shelf, CategoryNotFound | CatalogUnavailable>
    /** The categories that have books, in the order of the menu. */
    readonly summaries: Effect.Effect<ReadonlyArray<CategorySummary>, CatalogUnavailable>
    /** The book with an id. */
    readonly book: (id: number) => Effect.Effect<Book, BookNotFound | CatalogUnavailable>
    /** A page of all books, in ascending order of their ids. */
    readonly list: (query: Page.PageQuery) => Effect.Effect<BookPage, InvalidQuery | CatalogUnavailable>
  }
>()("onlinebooks/domain/BookCatalog") {
  /**
   * A catalogue of books that are in memory, and a function that replaces all of them in one step. A category without books is not
   * found.
   */
  static readonly make = (shelves: Shelves): readonly [BookCatalog["Service"], (shelves: Shelves) => void] => {
    let current = snapshotOf(shelves)
    const catalog = BookCatalog.of({
      allBooks: Effect.sync(() => current.allBooks),
      shelf: (category) => current.shelves.get(category) ?? Effect.fail(new CategoryNotFound({ category })),
      summaries: Effect.sync(() => current.summaries),
      book: (id) =>
        Effect.suspend(() => {
          const { allBooks } = current
          const position = positionAfter(allBooks, id - 1)
          const book = position < allBooks.size ? allBooks.at(position) : undefined
          return book?.id === id ? Effect.succeed(book) : Effect.fail(new BookNotFound({ bookId: id }))
        }),
      list: (query) => Effect.suspend(() => list(current.allBooks, query))
    })
    return [
      catalog,
      (next) => {
        current = snapshotOf(next)
      }
    ]
  }

  /** A catalogue of an array of books. */
  static readonly layerMemory = (books: ReadonlyArray<Book>) => {
    const sorted = books.toSorted((one, other) => one.id - other.id)
    const [catalog] = BookCatalog.make({
      allBooks: shelfOf(sorted),
      byCategory: new Map(
        categories.map((category) => [category, shelfOf(sorted.filter((book) => book.categories.includes(category)))])
      )
    })
    return Layer.succeed(BookCatalog, catalog)
  }
}

/** What the operations of a catalogue read. */
interface Snapshot {
  readonly allBooks: Shelf
  /** By the name of the category. */
  readonly shelves: ReadonlyMap<string, Effect.Effect<Shelf>>
  readonly summaries: ReadonlyArray<CategorySummary>
}

const snapshotOf = ({ allBooks, byCategory }: Shelves): Snapshot => {
  const shelves = new Map<string, Effect.Effect<Shelf>>()
  const summaries: Array<CategorySummary> = []
  for (const category of categories) {
    const shelf = byCategory.get(category)
    if (shelf === undefined || shelf.size === 0) continue
    shelves.set(category, Effect.succeed(shelf))
    summaries.push({ category, bookCount: shelf.size })
  }
  return { allBooks, shelves, summaries }
}

/** The number of books in a page of {@link BookCatalog.list}. */
export const listSizes: Page.PageSizes = { default: 100, maximum: 1000 }

/** The tokens of {@link BookCatalog.list} contain the id of a book. */
const tokens: Page.TokenFormat = { kind: "books", maxima: [maxBookId] }

const list = (shelf: Shelf, query: Page.PageQuery): Effect.Effect<BookPage, InvalidQuery> => {
  const violations: Array<Violation> = []
  const { after, size } = Page.fromQuery(query, listSizes, tokens, violations)
  if (violations.length > 0) return Effect.fail(new InvalidQuery({ violations }))
  const start = after === undefined ? 0 : positionAfter(shelf, after[0]!)
  const end = Math.min(start + size, shelf.size)
  const books = Array.from({ length: end - start }, (_, index) => shelf.at(start + index))
  return Effect.succeed({
    books,
    nextPageToken: end === shelf.size ? "" : Page.encodeToken(tokens, [books.at(-1)!.id])
  })
}

/** The first position of a shelf in ascending order of ids whose book has an id above `id`, or the size of the shelf. */
const positionAfter = (shelf: Shelf, id: number): number => {
  let [low, high] = [0, shelf.size]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (shelf.at(middle).id <= id) low = middle + 1
    else high = middle
  }
  return low
}

const shelfOf = (books: ReadonlyArray<Book>): Shelf => ({ size: books.length, at: (position) => books[position]! })
