/**
 * Recommends books: draws them at random from a category, or from the whole catalogue, without those that the reader has read or does
 * not want.
 */
import { Context, Effect, Layer, Random } from "effect"

import type { Book } from "./Book.ts"
import {
  BookCatalog,
  type CatalogUnavailable,
  type CategoryNotFound,
  type CategorySummary,
  type Shelf
} from "./BookCatalog.ts"
import { InvalidQuery, type Violation } from "./InvalidQuery.ts"
import { type History, noHistory, Readers } from "./Readers.ts"

/** The number of books in a recommendation whose query does not say how many. */
export const defaultLimit = 10

/** The maximum number of books in a recommendation. */
export const maxLimit = 100

/** A query as it was received; {@link Recommender} validates it. */
export interface Query {
  /** The reader: 0 is a visitor who has not signed in; negative numbers are invalid. */
  readonly userId: number
  /** The name of a category, such as "MYSTERY"; undefined means all books. */
  readonly category: string | undefined
  /** The number of books: 1 or more, capped at {@link maxLimit}; undefined means {@link defaultLimit}. */
  readonly maxResults: number | undefined
  /** Whether the reader's history counts. */
  readonly isPersonal: boolean
}

export interface Recommendation {
  /** Distinct, in random order. */
  readonly books: ReadonlyArray<Book>
  /** The state of the history that was used. */
  readonly history: History["source"]
}

export class Recommender extends Context.Service<
  Recommender,
  {
    /** Draws as many books as requested, or all there are. */
    readonly recommend: (
      query: Query
    ) => Effect.Effect<Recommendation, InvalidQuery | CategoryNotFound | CatalogUnavailable>
    /** The categories that have books, in the order of the menu. */
    readonly categories: Effect.Effect<ReadonlyArray<CategorySummary>, CatalogUnavailable>
  }
>()("onlinebooks/domain/Recommender") {
  static readonly layer = Layer.effect(
    Recommender,
    Effect.gen(function* () {
      const catalog = yield* BookCatalog
      const readers = yield* Readers

      return Recommender.of({
        recommend: (query) => {
          const violations = violationsOf(query)
          if (violations.length > 0) return Effect.fail(new InvalidQuery({ violations }))
          const { category, isPersonal, maxResults = defaultLimit, userId } = query
          const shelf = category === undefined ? catalog.allBooks : catalog.shelf(category)
          const drawWithout = ({ excluded, source }: History) =>
            Effect.zipWith(shelf, Random.Random, (shelf, random) => ({
              books: draw(shelf, Math.min(maxResults, maxLimit), random, excluded),
              history: source
            }))
          return isPersonal && userId > 0
            ? Effect.flatMap(readers.history(userId), drawWithout)
            : drawWithout(noHistory)
        },
        categories: catalog.summaries
      })
    })
  )
}

const violationsOf = ({ maxResults = defaultLimit, userId }: Query): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  if (userId < 0) {
    violations.push({ field: "userId", description: "expected 0 (a visitor who has not signed in) or above" })
  }
  if (maxResults < 1) violations.push({ field: "maxResults", description: "expected 1 or above" })
  return violations
}

/**
 * Draws `count` distinct books of a shelf that are not excluded, or all of them. Every choice in every order is equally likely.
 *
 * This is a Fisher-Yates shuffle that skips excluded books, stops after `count` others, and stores only the positions that it has swapped:
 * it takes O(count + excluded) time and memory, whatever the size of the shelf.
 */
export const draw = (
  shelf: Shelf,
  count: number,
  random: Random.Random,
  excluded: ReadonlySet<number> = noHistory.excluded
): ReadonlyArray<Book> => {
  const swapped = new Map<number, number>()
  const drawn: Array<Book> = []
  for (let next = 0; next < shelf.size && drawn.length < count; next++) {
    const position = next + Math.floor(random.nextDoubleUnsafe() * (shelf.size - next))
    const book = shelf.at(swapped.get(position) ?? position)
    if (excluded.size === 0 || !excluded.has(book.id)) drawn.push(book)
    swapped.set(position, swapped.get(next) ?? next)
  }
  return drawn
}
