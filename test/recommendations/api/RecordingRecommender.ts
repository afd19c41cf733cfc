/**
 * A recommender for tests of the APIs.
 */
import { Effect, Layer } from "effect"

import { CategoryNotFound, type CategorySummary } from "../../../src/domain/BookCatalog.ts"
import { type Query, Recommender } from "../../../src/domain/Recommender.ts"
import { book } from "../../domain/Books.ts"

/**
 * Adds each query to `queries`, and recommends books 7 and 8. There are no books in category "99", and the history of reader 404 is
 * unavailable.
 */
export const layer = (queries: Array<Query> = []) =>
  Layer.mock(Recommender, {
    recommend: (query) =>
      Effect.suspend(() => {
        queries.push(query)
        if (query.category === "99") return Effect.fail(new CategoryNotFound({ category: query.category }))
        return Effect.succeed({
          books: [book(7, "HORROR", "MYSTERY"), { ...book(8), year: -720, isbn10: "080442957X" }],
          history: query.userId === 404 ? "unavailable" : "current"
        })
      }),
    categories: Effect.succeed<ReadonlyArray<CategorySummary>>([
      { category: "MYSTERY", bookCount: 2 },
      { category: "HORROR", bookCount: 1 }
    ])
  })
