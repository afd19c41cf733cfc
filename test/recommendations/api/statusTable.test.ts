import { assert, describe, it } from "@effect/vitest"

import { CatalogUnavailable, CategoryNotFound } from "../../../src/domain/BookCatalog.ts"
import { InvalidQuery } from "../../../src/domain/InvalidQuery.ts"
import { NoReaderIds } from "../../../src/domain/Readers.ts"
import { ErrorInfo } from "../../../src/layers/grpc/ErrorDetail.ts"
import * as Status from "../../../src/layers/grpc/Status.ts"
import { statuses } from "../../../src/recommendations/api/statusTable.ts"

describe("the status table", () => {
  it("maps InvalidQuery to INVALID_ARGUMENT with the names of the request's fields", () => {
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
  })

  it("maps CategoryNotFound to NOT_FOUND with an ErrorInfo", () => {
    assert.deepStrictEqual(
      statuses.CategoryNotFound(new CategoryNotFound({ category: "99" })),
      Status.notFound("Category not found", {
        details: [ErrorInfo({ reason: "CATEGORY_NOT_FOUND", domain: "onlinebooks", metadata: { category: "99" } })]
      })
    )
  })

  it("maps NoReaderIds to RESOURCE_EXHAUSTED, which clients do not repeat", () => {
    assert.deepStrictEqual(
      statuses.NoReaderIds(new NoReaderIds()),
      Status.resourceExhausted("All ids of readers have been given")
    )
  })

  it("maps CatalogUnavailable to UNAVAILABLE without its cause", () => {
    assert.deepStrictEqual(
      statuses.CatalogUnavailable(new CatalogUnavailable({ cause: "down" })),
      Status.unavailable("The catalogue cannot be reached")
    )
  })
})
