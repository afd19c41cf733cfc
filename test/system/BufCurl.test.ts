/**
 * Both APIs from a shell, as an operator calls them: buf curl needs the protos and nothing else.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"

import { type Ended, Installation } from "../integration/Installation.ts"
import { decodePrinted, ForeignTools } from "./ForeignTools.ts"

const options = ["--protocol", "grpc", "--http2-prior-knowledge", "--schema", "proto"]

/** Calls methods of one server that has just been started. */
const makeCurl = Effect.gen(function* () {
  const { buf } = yield* ForeignTools
  const { port } = yield* (yield* Installation).start("recommendations")
  return (method: string, data: object) =>
    buf("curl", ...options, "-d", JSON.stringify(data), `http://localhost:${port}/${method}`)
})

/** Reads what is printed of a call that went well. */
const decodeOk = <A>(schema: Schema.Decoder<A>) => {
  const decode = decodePrinted(Schema.fromJsonString(schema))
  return ({ exitCode, stderr, stdout }: Ended) => {
    assert.strictEqual(exitCode, 0, stderr)
    return decode(stdout)
  }
}

const decodeError = decodePrinted(
  Schema.fromJsonString(
    Schema.Struct({
      code: Schema.String,
      message: Schema.String,
      details: Schema.Array(Schema.Struct({ type: Schema.String, value: Schema.String }))
    })
  )
)

/** Asserts that a call was refused, with one detail of that type. */
const assertRefused = Effect.fnUntraced(function* (
  { exitCode, stderr, stdout }: Ended,
  expected: { readonly code: string; readonly message: RegExp; readonly detail: string }
) {
  assert.strictEqual(stdout, "")
  assert.notStrictEqual(exitCode, 0)
  const { code, details, message } = yield* decodeError(stderr)
  assert.strictEqual(code, expected.code)
  assert.match(message, expected.message)
  assert.deepStrictEqual(
    details.map(({ type }) => type),
    [expected.detail]
  )
})

const notFound = { code: "not_found", message: /^Category not found$/, detail: "google.rpc.ErrorInfo" }

const bothFields = { code: "invalid_argument", message: /user_id.*max_results/, detail: "google.rpc.BadRequest" }

const decodeFirst = decodeOk(
  Schema.Struct({ recommendations: Schema.Array(Schema.Struct({ id: Schema.Int, title: Schema.NonEmptyString })) })
)

const decodeRecommend = decodeOk(
  Schema.Struct({
    books: Schema.Array(
      Schema.Struct({
        id: Schema.Int,
        title: Schema.NonEmptyString,
        authors: Schema.Array(Schema.NonEmptyString),
        categories: Schema.Array(Schema.String)
      })
    )
  })
)

const decodeListCategories = decodeOk(
  Schema.Struct({
    categories: Schema.Array(Schema.Struct({ category: Schema.String, bookCount: Schema.Int }))
  })
)

layer(Layer.merge(Installation.layer, ForeignTools.layer))("buf curl", (it) => {
  it.effect("calls the first API", () =>
    Effect.gen(function* () {
      const curl = yield* makeCurl
      const [books, unknown, invalid] = yield* Effect.all(
        [
          curl("Recommendations/Recommend", { userId: 7, category: "SCIENCE_FICTION", maxResults: 3 }),
          curl("Recommendations/Recommend", { category: 99, maxResults: 3 }),
          curl("Recommendations/Recommend", { userId: -1, category: 99 })
        ],
        { concurrency: "unbounded" }
      )
      const { recommendations } = yield* decodeFirst(books)
      assert.lengthOf(new Set(recommendations.map(({ id }) => id)), 3)
      yield* assertRefused(unknown, notFound)
      yield* assertRefused(invalid, bothFields)
    })
  )

  it.effect("calls today's API", () =>
    Effect.gen(function* () {
      const curl = yield* makeCurl
      const service = "onlinebooks.recommendations.v1.RecommendationsService"
      const [books, unknown, invalid, categories] = yield* Effect.all(
        [
          curl(`${service}/Recommend`, { category: "BOOK_CATEGORY_HISTORY", maxResults: 4 }),
          curl(`${service}/Recommend`, { category: 99 }),
          curl(`${service}/Recommend`, { userId: -1, maxResults: -1 }),
          curl(`${service}/ListCategories`, {})
        ],
        { concurrency: "unbounded" }
      )
      const { books: history } = yield* decodeRecommend(books)
      assert.lengthOf(new Set(history.map(({ id }) => id)), 4)
      for (const { categories: shelves } of history) assert.include(shelves, "BOOK_CATEGORY_HISTORY")
      yield* assertRefused(unknown, notFound)
      yield* assertRefused(invalid, bothFields)
      const { categories: summaries } = yield* decodeListCategories(categories)
      assert.lengthOf(summaries, 13)
      assert.strictEqual(summaries[0]?.category, "BOOK_CATEGORY_MYSTERY")
      for (const { bookCount, category } of summaries) assert.isAtLeast(bookCount, 10, category)
    })
  )
})
