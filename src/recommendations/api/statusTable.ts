/**
 * The gRPC status of each error of the domain, for both APIs.
 */
import { String } from "effect"

import type { BookNotFound, CatalogUnavailable, CategoryNotFound } from "../../domain/BookCatalog.ts"
import type { InvalidQuery } from "../../domain/InvalidQuery.ts"
import type { NoReaderIds, ReadersUnavailable } from "../../domain/Readers.ts"
import { ErrorInfo } from "../../layers/grpc/ErrorDetail.ts"
import type { StatusTable } from "../../layers/grpc/GrpcHandlers.ts"
import * as Status from "../../layers/grpc/Status.ts"

export const statuses: StatusTable<
  InvalidQuery | CategoryNotFound | BookNotFound | CatalogUnavailable | NoReaderIds | ReadersUnavailable
> = {
  InvalidQuery: ({ violations }) =>
    // the fields of a query have the names of the request's fields, which are in snake case
    Status.invalidArgument(
      violations.map(({ description, field }) => ({ field: String.camelToSnake(field), description }))
    ),
  CategoryNotFound: ({ category }) =>
    Status.notFound("Category not found", {
      details: [ErrorInfo({ reason: "CATEGORY_NOT_FOUND", domain: "onlinebooks", metadata: { category } })]
    }),
  BookNotFound: ({ bookId }) =>
    Status.notFound("Book not found", {
      details: [ErrorInfo({ reason: "BOOK_NOT_FOUND", domain: "onlinebooks", metadata: { book_id: `${bookId}` } })]
    }),
  CatalogUnavailable: () => Status.unavailable("The catalogue cannot be reached"),
  // not UNAVAILABLE, which clients repeat
  NoReaderIds: () => Status.resourceExhausted("All ids of readers have been given"),
  ReadersUnavailable: () => Status.unavailable("The database cannot be reached")
}
