/**
 * Finds books by words of their titles and authors.
 */
import { Context, Effect, Hash, Schema } from "effect"

import { type Book, maxBookId } from "./Book.ts"
import { type BookPage, type CatalogUnavailable, CategoryNotFound } from "./BookCatalog.ts"
import { Category } from "./Category.ts"
import { foldWords } from "./foldWords.ts"
import { InvalidQuery, type Violation } from "./InvalidQuery.ts"
import * as Page from "./Page.ts"

/** The maximum length of a query, in code points. */
export const maxQueryLength = 200

/** The number of books in a page of {@link BookSearch}. */
export const searchSizes: Page.PageSizes = { default: 20, maximum: 100 }

/** A query as it was received. */
export interface SearchQuery extends Page.PageQuery {
  /** 1 to {@link maxQueryLength} code points, not only white space. */
  readonly query: string
  /** The name of a category, such as "MYSTERY"; undefined means all books. */
  readonly category: string | undefined
}

/** A valid query, for an index of books. */
export interface WordQuery {
  /** The words that a book has, in its title or its authors; 1 or more. A word of the book may be longer than the last one. */
  readonly words: ReadonlyArray<string>
  readonly category: Category | undefined
  /** Only matches after that one. */
  readonly after: Rank | undefined
  /** The maximum number of matches. */
  readonly limit: number
}

/** The place of a match in the order of matches: by the numbers, in their order. It is the same in every index. */
export interface Rank {
  /** 0 if the folded title equals the query, 1 if it begins with the query, else 2. */
  readonly titleMatch: number
  /** The length of the folded title, in code points. */
  readonly titleLength: number
  readonly bookId: number
}

/** A book with all words of a query. */
export interface Match {
  readonly book: Book
  readonly rank: Rank
}

export class BookSearch extends Context.Service<
  BookSearch,
  {
    /** A page of the books that match, best match first. A query without a word matches no book. */
    readonly search: (
      query: SearchQuery
    ) => Effect.Effect<BookPage, InvalidQuery | CategoryNotFound | CatalogUnavailable>
  }
>()("onlinebooks/domain/BookSearch") {
  /** The search in an index, which returns matches in the order of their ranks. */
  static readonly make = (
    find: (query: WordQuery) => Effect.Effect<ReadonlyArray<Match>, CatalogUnavailable>
  ): BookSearch["Service"] =>
    BookSearch.of({
      search: Effect.fnUntraced(function* (searched) {
        const words = foldWords(searched.query)
        const tokens = tokensOf(words, searched.category)
        const violations = violationsOf(searched)
        const { after, size } = Page.fromQuery(searched, searchSizes, tokens, violations)
        if (violations.length > 0) return yield* new InvalidQuery({ violations })
        const { category } = searched
        if (category !== undefined && !isCategory(category)) return yield* new CategoryNotFound({ category })
        if (words.length === 0) return { books: [], nextPageToken: "" }
        const [titleMatch = 0, titleLength = 0, bookId = 0] = after ?? []
        const matches = yield* find({
          words,
          category,
          after: after === undefined ? undefined : { titleMatch, titleLength, bookId },
          // one more shows whether there is another page
          limit: size + 1
        })
        const last = matches.length > size ? matches[size - 1]?.rank : undefined
        return {
          books: matches.slice(0, size).map(({ book }) => book),
          nextPageToken:
            last === undefined ? "" : Page.encodeToken(tokens, [last.titleMatch, last.titleLength, last.bookId])
        }
      })
    })
}

/** The tokens of a query contain a rank. That of another query is refused, since it is a place in another order. */
const tokensOf = (words: ReadonlyArray<string>, category: string | undefined): Page.TokenFormat => ({
  // computed only for a token, since most searches have none
  get kind() {
    return `search-${Hash.string(`${category}:${words.join(" ")}`) >>> 0}`
  },
  maxima: [2, maxBookId, maxBookId]
})

const isCategory = Schema.is(Category)

const violationsOf = ({ query }: SearchQuery): Array<Violation> => {
  const length = query.length > maxQueryLength * 2 ? Infinity : Array.from(query).length
  const isValid = length <= maxQueryLength && query.trim() !== "" && !query.includes("\u0000")
  const description = `expected 1 to ${maxQueryLength} characters without U+0000, not only white space`
  return isValid ? [] : [{ field: "query", description }]
}
