/**
 * The books of the shop in onlinebooks.recommendations.v1 (proto/onlinebooks/recommendations/v1): one book, all books, and search.
 */
import { Effect } from "effect"

import { BookCatalog, type BookPage } from "../../domain/BookCatalog.ts"
import { BookSearch } from "../../domain/BookSearch.ts"
import type { PageQuery } from "../../domain/Page.ts"
import { CatalogService } from "../../generated/v1/services.ts"
import * as GrpcServer from "../../layers/grpc/GrpcServer.ts"
import * as TraceContext from "../../layers/telemetry/TraceContext.ts"
import { categoryNameOf } from "../categoryNumbers.ts"
import { toBookMessage } from "./bookMessage.ts"
import { statuses } from "./statusTable.ts"

/** Serves the API. */
export const layer = GrpcServer.serve(
  CatalogService,
  Effect.gen(function* () {
    const catalog = yield* BookCatalog
    const { search } = yield* BookSearch
    return {
      GetBook: ({ bookId }) => Effect.map(catalog.book(bookId), (book) => ({ book: toBookMessage(book) })),
      ListBooks: (request) =>
        Effect.map(TraceContext.withSpan(catalog.list(toPageQuery(request)), "BookCatalog.list"), toResponse),
      SearchBooks: (request) => {
        const category = categoryNameOf(request.category)
        const found = search({ ...toPageQuery(request), query: request.query, category })
        // a category without books is not found
        const checked =
          category === undefined
            ? found
            : Effect.tap(found, ({ books }) => (books.length === 0 ? catalog.shelf(category) : Effect.void))
        return Effect.map(TraceContext.withSpan(checked, "BookSearch.search"), toResponse)
      }
    }
  }),
  statuses
)

const toPageQuery = ({
  pageSize,
  pageToken
}: {
  readonly pageSize: number
  readonly pageToken: string
}): PageQuery => ({
  // an unset field decodes to 0
  pageSize: pageSize === 0 ? undefined : pageSize,
  pageToken
})

const toResponse = ({ books, nextPageToken }: BookPage) => ({ books: books.map(toBookMessage), nextPageToken })
