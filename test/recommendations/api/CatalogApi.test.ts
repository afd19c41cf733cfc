import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"

import { BookCatalog, CatalogUnavailable, CategoryNotFound } from "../../../src/domain/BookCatalog.ts"
import { BookSearch, type SearchQuery } from "../../../src/domain/BookSearch.ts"
import { InvalidQuery } from "../../../src/domain/InvalidQuery.ts"
import type { SearchBooksRequest } from "../../../src/generated/v1/onlinebooks/recommendations/v1/SearchBooksRequest.ts"
import { CatalogService } from "../../../src/generated/v1/services.ts"
import { BadRequest, ErrorInfo } from "../../../src/layers/grpc/ErrorDetail.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as InMemory from "../../../src/layers/testing/InMemory.ts"
import * as CatalogApi from "../../../src/recommendations/api/CatalogApi.ts"
import { book, books } from "../../domain/Books.ts"

const found = { ...book(8), year: -720, isbn10: "080442957X" }

/** Adds each query to `queries`, and finds one book on the last page. */
const search = (queries: Array<SearchQuery>): BookSearch["Service"]["search"] =>
  Effect.fnUntraced(function* (query) {
    queries.push(query)
    switch (query.query) {
      case "down":
        return yield* new CatalogUnavailable({ cause: "down" })
      case "":
        return yield* new InvalidQuery({ violations: [{ field: "pageToken", description: "no" }] })
      default:
        if (query.category === "99") return yield* new CategoryNotFound({ category: "99" })
        if (query.query === "nothing") return { books: [], nextPageToken: "" }
        return { books: [found], nextPageToken: "next" }
    }
  })

/** A client of the API on 150 books, whose search adds its queries to `queries`. */
const client = Effect.fnUntraced(function* (queries: Array<SearchQuery> = []) {
  const context = yield* Layer.build(
    CatalogApi.layer.pipe(
      InMemory.listen(),
      Layer.provide(BookCatalog.layerMemory(books(150))),
      Layer.provide(Layer.succeed(BookSearch, BookSearch.of({ search: search(queries) })))
    )
  )
  return yield* Effect.provideContext(GrpcClient.make(CatalogService), context)
})

const message = (id: number) => ({
  id,
  title: `Book ${id}`,
  authors: [`Author ${id}`],
  isbn10: "",
  categories: [1]
})

describe("CatalogApi", () => {
  it.effect("gets a book", () =>
    Effect.gen(function* () {
      const { GetBook } = yield* client()
      assert.deepStrictEqual(yield* GetBook({ bookId: 7 }), { book: message(7) } as never)
    })
  )

  it.effect.each([0, -1, 151])("does not find the book %s", (bookId) =>
    Effect.gen(function* () {
      const { GetBook } = yield* client()
      const { reason } = yield* Effect.flip(GetBook({ bookId }))
      assert.deepStrictEqual([reason._tag, reason.message], ["NotFound", "Book not found"])
      assert.deepStrictEqual(reason.details, [
        ErrorInfo({ reason: "BOOK_NOT_FOUND", domain: "onlinebooks", metadata: { book_id: `${bookId}` } })
      ])
    })
  )

  it.effect("lists books in pages", () =>
    Effect.gen(function* () {
      const { ListBooks } = yield* client()
      const first = yield* ListBooks({})
      assert.deepStrictEqual(first.books, Array.from({ length: 100 }, (_, index) => message(index + 1)) as never)
      const second = yield* ListBooks({ pageSize: 1000, pageToken: first.nextPageToken })
      assert.deepStrictEqual([second.books.length, second.books[0]?.id, second.nextPageToken], [50, 101, ""])
    })
  )

  it.effect("names every bad field of a request", () =>
    Effect.gen(function* () {
      const { ListBooks } = yield* client()
      const { reason } = yield* Effect.flip(ListBooks({ pageSize: -1, pageToken: "\u0000" }))
      assert.strictEqual(reason._tag, "InvalidArgument")
      const [detail] = reason.details
      assert.deepStrictEqual(detail?._tag === "BadRequest" && detail.fieldViolations.map(({ field }) => field), [
        "page_size",
        "page_token"
      ])
    })
  )

  it.effect.each([
    {
      request: { query: "dune", category: 13, pageSize: 5, pageToken: "t" },
      query: { query: "dune", category: "HORROR", pageSize: 5, pageToken: "t" }
    },
    // unset fields decode to 0
    { request: { query: "x" }, query: { query: "x", category: undefined, pageSize: undefined, pageToken: "" } }
  ])("converts the request $request to a query", ({ query, request }) =>
    Effect.gen(function* () {
      const queries: Array<SearchQuery> = []
      const { SearchBooks } = yield* client(queries)
      const response = yield* SearchBooks(request as SearchBooksRequest)
      assert.deepStrictEqual(queries, [query])
      assert.deepStrictEqual(response.books, [{ ...message(8), year: -720, isbn10: "080442957X" }] as never)
      assert.strictEqual(response.nextPageToken, "next")
    })
  )

  it.effect.each([0, 1] as const)("finds no book in the category %s, which has books", (category) =>
    Effect.gen(function* () {
      const { SearchBooks } = yield* client()
      assert.deepStrictEqual(yield* SearchBooks({ query: "nothing", category }), {
        books: [],
        nextPageToken: ""
      } as never)
    })
  )

  it.effect.each([
    {
      request: { query: "" },
      status: "InvalidArgument",
      details: [BadRequest({ fieldViolations: [{ field: "page_token", description: "no" }] })]
    },
    {
      request: { query: "x", category: 99 },
      status: "NotFound",
      details: [ErrorInfo({ reason: "CATEGORY_NOT_FOUND", domain: "onlinebooks", metadata: { category: "99" } })]
    },
    {
      request: { query: "nothing", category: 13 },
      status: "NotFound",
      details: [ErrorInfo({ reason: "CATEGORY_NOT_FOUND", domain: "onlinebooks", metadata: { category: "HORROR" } })]
    },
    { request: { query: "down" }, status: "Unavailable", details: [] }
  ])("answers $request with $status", ({ details, request, status }) =>
    Effect.gen(function* () {
      const { SearchBooks } = yield* client()
      const { reason } = yield* Effect.flip(SearchBooks(request as unknown as SearchBooksRequest))
      assert.strictEqual(reason._tag, status)
      assert.deepStrictEqual(reason.details, details)
    })
  )
})
