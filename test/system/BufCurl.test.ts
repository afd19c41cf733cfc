/**
 * Both APIs called by `buf curl`, as an operator does from a shell: with the proto files, or with the protos that the server's
 * reflection service returns.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schema, Struct } from "effect"

import { type Ended, Installation } from "../integration/Installation.ts"
import { decodePrinted, ForeignTools } from "./ForeignTools.ts"

/** Where buf curl gets the protos: from files or from the server. */
const sources = {
  "with the proto files": ["--schema", "proto"],
  "with reflection": ["--reflect-protocol", "grpc-v1"],
  "with reflection v1alpha": ["--reflect-protocol", "grpc-v1alpha"]
}

type Source = keyof typeof sources

/** Starts a server and returns a function that runs buf curl against it. */
const makeRun = Effect.gen(function* () {
  const { buf } = yield* ForeignTools
  const { port } = yield* (yield* Installation).start("recommendations")
  return (path: string, ...options: ReadonlyArray<string>) =>
    buf("curl", "--protocol", "grpc", "--http2-prior-knowledge", ...options, `http://localhost:${port}${path}`)
})

/** The same for calls of methods. */
const makeCurl = (source: Source) =>
  Effect.map(
    makeRun,
    (run) => (method: string, data: object) => run(`/${method}`, ...sources[source], "-d", JSON.stringify(data))
  )

/** The lines that a successful command printed. */
const linesOf = ({ exitCode, stderr, stdout }: Ended) => {
  assert.strictEqual(exitCode, 0, stderr)
  return stdout.trim().split("\n")
}

/** Decodes the response of a successful call. */
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

/** Asserts that a call failed with one error detail of the given type. */
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
  it.effect.each(Struct.keys(sources))("calls the first API %s", (source) =>
    Effect.gen(function* () {
      const curl = yield* makeCurl(source)
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

  it.effect.each(Struct.keys(sources))("calls the v1 API %s", (source) =>
    Effect.gen(function* () {
      const curl = yield* makeCurl(source)
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

  it.effect("lists the services and methods of the server", () =>
    Effect.gen(function* () {
      const run = yield* makeRun
      const [services, methods] = yield* Effect.all([run("", "--list-services"), run("", "--list-methods")], {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(linesOf(services), [
        "Recommendations",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "onlinebooks.recommendations.v1.CatalogService",
        "onlinebooks.recommendations.v1.ReaderService",
        "onlinebooks.recommendations.v1.RecommendationsService"
      ])
      assert.sameMembers(linesOf(methods), [
        "Recommendations/Recommend",
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/List",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ...["GetBook", "ListBooks", "SearchBooks"].map(
          (method) => `onlinebooks.recommendations.v1.CatalogService/${method}`
        ),
        ...["CreateReader", "ForgetReader", "ImportFeedback", "ListFeedback", "RecordFeedback"].map(
          (method) => `onlinebooks.recommendations.v1.ReaderService/${method}`
        ),
        "onlinebooks.recommendations.v1.RecommendationsService/ListCategories",
        "onlinebooks.recommendations.v1.RecommendationsService/Recommend"
      ])
    })
  )
})
