import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"

import { CatalogUnavailable, CategoryNotFound, type CategorySummary } from "../../src/domain/BookCatalog.ts"
import { categories } from "../../src/domain/Category.ts"
import { InvalidQuery, type Query, Recommender } from "../../src/domain/Recommender.ts"
import { ErrorInfo } from "../../src/layers/grpc/ErrorDetail.ts"
import * as Status from "../../src/layers/grpc/Status.ts"
import * as Categories from "../../src/recommendations/Categories.ts"
import { statuses } from "../../src/recommendations/DomainStatus.ts"
import * as First from "../../src/recommendations/RecommendationsFirst.ts"
import * as V1 from "../../src/recommendations/RecommendationsV1.ts"
import { book } from "../domain/Books.ts"

/** A recommender that notes what it is asked, and recommends two books. */
const noting = (queries: Array<Query>) =>
  Layer.mock(Recommender, {
    recommend: (query) =>
      Effect.sync(() => {
        queries.push(query)
        return [book(7, "HORROR", "MYSTERY"), { ...book(8), year: -720, isbn10: "080442957X" }]
      }),
    categories: Effect.succeed<ReadonlyArray<CategorySummary>>([
      { category: "MYSTERY", bookCount: 2 },
      { category: "HORROR", bookCount: 1 }
    ])
  })

describe("today's API", () => {
  it.effect.each([
    { request: { userId: 3, category: 13, maxResults: 5 }, query: { userId: 3, category: "HORROR", maxResults: 5 } },
    // what is not set reads as 0
    {
      request: { userId: 0, category: 0, maxResults: 0 },
      query: { userId: 0, category: undefined, maxResults: undefined }
    },
    { request: { userId: -1, category: 14, maxResults: -1 }, query: { userId: -1, category: "14", maxResults: -1 } }
  ])("asks the domain $query", ({ query, request }) =>
    Effect.gen(function* () {
      const queries: Array<Query> = []
      const { Recommend } = yield* Effect.provide(V1.handlers, noting(queries))
      yield* Recommend(request as Parameters<typeof Recommend>[0])
      assert.deepStrictEqual(queries, [query])
    })
  )

  it.effect("answers with the books as they came", () =>
    Effect.gen(function* () {
      const { Recommend } = yield* Effect.provide(V1.handlers, noting([]))
      assert.deepStrictEqual(yield* Recommend({ userId: 0, category: 0, maxResults: 2 }), {
        books: [
          { id: 7, title: "Book 7", authors: ["Author 7"], year: undefined, isbn10: "", categories: [13, 1] },
          { id: 8, title: "Book 8", authors: ["Author 8"], year: -720, isbn10: "080442957X", categories: [1] }
        ]
      })
    })
  )

  it.effect("lists categories with their counts", () =>
    Effect.gen(function* () {
      const { ListCategories } = yield* Effect.provide(V1.handlers, noting([]))
      assert.deepStrictEqual(yield* ListCategories(), {
        categories: [
          { category: 1, bookCount: 2 },
          { category: 13, bookCount: 1 }
        ]
      })
    })
  )

  it("has a number for every category, in the order of the menu", () => {
    assert.deepStrictEqual(
      categories.map(Categories.toV1),
      categories.map((_, index) => index + 1)
    )
    assert.deepStrictEqual(
      categories.map((category) => Categories.fromV1(Categories.toV1(category))),
      [...categories]
    )
  })
})

describe("the first API", () => {
  it.effect.each([
    { request: { userId: 3, category: 0, maxResults: 5 }, query: { userId: 3, category: "MYSTERY", maxResults: 5 } },
    { request: { userId: 0, category: 2, maxResults: 0 }, query: { userId: 0, category: "SELF_HELP", maxResults: 0 } },
    { request: { userId: 0, category: 3, maxResults: 1 }, query: { userId: 0, category: "3", maxResults: 1 } }
  ])("asks the domain $query", ({ query, request }) =>
    Effect.gen(function* () {
      const queries: Array<Query> = []
      const { Recommend } = yield* Effect.provide(First.handlers, noting(queries))
      yield* Recommend(request as Parameters<typeof Recommend>[0])
      assert.deepStrictEqual(queries, [query])
    })
  )

  it.effect("answers with ids and titles", () =>
    Effect.gen(function* () {
      const { Recommend } = yield* Effect.provide(First.handlers, noting([]))
      assert.deepStrictEqual(yield* Recommend({ userId: 0, category: 0, maxResults: 2 }), {
        recommendations: [
          { id: 7, title: "Book 7" },
          { id: 8, title: "Book 8" }
        ]
      })
    })
  )
})

describe("the domain's errors", () => {
  it("become the statuses of the contract", () => {
    assert.deepStrictEqual(
      statuses.InvalidQuery(
        new InvalidQuery({
          violations: [
            { field: "userId", description: "no" },
            { field: "maxResults", description: "no" }
          ]
        })
      ),
      Status.invalidArgument([
        { field: "user_id", description: "no" },
        { field: "max_results", description: "no" }
      ])
    )
    assert.deepStrictEqual(
      statuses.CategoryNotFound(new CategoryNotFound({ category: "99" })),
      Status.notFound("Category not found", {
        details: [ErrorInfo({ reason: "CATEGORY_NOT_FOUND", domain: "onlinebooks", metadata: { category: "99" } })]
      })
    )
    assert.deepStrictEqual(
      statuses.CatalogUnavailable(new CatalogUnavailable({ cause: "down" })),
      Status.unavailable("The catalogue cannot be reached")
    )
  })
})
