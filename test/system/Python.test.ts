/**
 * Both APIs called by Python's grpcio with stubs that grpc_tools generated from the protos: a client that shares no code with us.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, FileSystem, Layer, Schema, Stream } from "effect"
import { Csv } from "effect/encoding"

import { Installation, type Running } from "../integration/Installation.ts"
import { decodePrinted, ForeignTools, type RawCall, type StubCall } from "./ForeignTools.ts"

/** A running process of the built bundle. */
class Recommendations extends Context.Service<Recommendations, Running>()("onlinebooks/test/Recommendations") {
  /** Uses the catalogue that ships with the project. */
  static readonly layer = Layer.effect(
    Recommendations,
    Effect.flatMap(Installation, ({ start }) => start("recommendations"))
  )

  /** Uses another catalogue. */
  static readonly layerCatalogue = (content: string) =>
    Layer.effect(
      Recommendations,
      Effect.gen(function* () {
        const installation = yield* Installation
        yield* installation.write("catalogue.csv", content)
        return yield* installation.start("recommendations", { CATALOG_FILE: "catalogue.csv" })
      })
    )
}

const call = Effect.fnUntraced(function* (...calls: ReadonlyArray<StubCall | RawCall>) {
  const { port } = yield* Recommendations
  return yield* (yield* ForeignTools).python(port, calls)
})

type Request = StubCall["request"]

/** A call of the first API, by default for three mysteries without a user. */
const first = (request: Request): StubCall => ({
  call: "first.Recommend",
  request: { category: "MYSTERY", max_results: 3, ...request }
})

/** A call of the v1 API, by default with an empty request. */
const v1 = (request: Request = {}): StubCall => ({ call: "v1.Recommend", request })

const listCategories: StubCall = { call: "v1.ListCategories", request: {} }

const FirstBook = Schema.Struct({ id: Schema.Int, title: Schema.String })
const FirstResponse = Schema.Struct({
  code: Schema.Literal("OK"),
  response: Schema.Struct({ recommendations: Schema.Array(FirstBook) })
})

const V1Response = Schema.Struct({
  code: Schema.Literal("OK"),
  response: Schema.Struct({
    books: Schema.Array(
      Schema.Struct({
        id: Schema.Int,
        title: Schema.String,
        authors: Schema.Array(Schema.String),
        year: Schema.optionalKey(Schema.Int),
        isbn10: Schema.optionalKey(Schema.String),
        categories: Schema.Array(Schema.String)
      })
    )
  })
})

const decodeFirst = decodePrinted(FirstResponse)
const decodeV1 = decodePrinted(V1Response)

/** The books of a response of the first API. */
const firstBooks = (outcome: unknown) => Effect.map(decodeFirst(outcome), ({ response }) => response.recommendations)

/** The books of a response of the v1 API. */
const v1Books = (outcome: unknown) => Effect.map(decodeV1(outcome), ({ response }) => response.books)

interface Identified {
  readonly id: number
}

const ids = (books: ReadonlyArray<Identified>) => books.map(({ id }) => id)

const byId = <B extends Identified>(books: ReadonlyArray<B>) => books.toSorted((a, b) => a.id - b.id)

const assertDistinct = (books: ReadonlyArray<Identified>, count: number) => {
  assert.lengthOf(books, count)
  assert.strictEqual(new Set(ids(books)).size, count, `a book occurs twice: ${ids(books).join(", ")}`)
}

/** The outcome of a call for a category that is unknown or has no books; `category` is its name in ErrorInfo. */
const categoryNotFound = (category: string) => ({
  code: "NOT_FOUND",
  message: "Category not found",
  status: {
    code: 5,
    message: "Category not found",
    details: [
      {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        reason: "CATEGORY_NOT_FOUND",
        domain: "onlinebooks",
        metadata: { category }
      }
    ]
  }
})

const InvalidArgument = Schema.Struct({
  code: Schema.Literal("INVALID_ARGUMENT"),
  message: Schema.String,
  status: Schema.Struct({
    code: Schema.Literal(3),
    message: Schema.String,
    details: Schema.Tuple([
      Schema.Struct({
        "@type": Schema.Literal("type.googleapis.com/google.rpc.BadRequest"),
        field_violations: Schema.Array(Schema.Struct({ field: Schema.String, description: Schema.NonEmptyString }))
      })
    ])
  })
})

const decodeInvalidArgument = decodePrinted(InvalidArgument)

/** Asserts that a call failed with violations of exactly these fields. */
const assertInvalid = Effect.fnUntraced(function* (outcome: unknown, fields: ReadonlyArray<string>) {
  const { message, status } = yield* decodeInvalidArgument(outcome)
  assert.deepStrictEqual(
    status.details[0].field_violations.map(({ field }) => field),
    fields
  )
  assert.strictEqual(status.message, message)
  for (const { description, field } of status.details[0].field_violations) {
    assert.include(message, `${field}: ${description}`)
  }
})

/** A grpc.health.v1.HealthCheckRequest in hexadecimal: field 1 is the name. */
const healthRequest = (service: string) =>
  service === "" ? "" : Buffer.from([0x0a, service.length, ...Buffer.from(service)]).toString("hex")

/** The books of data/books.csv, read without the code under test. */
const shippedBooks = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const file = fileURLToPath(new URL("../../data/books.csv", import.meta.url))
  const rows = yield* Stream.decodeText(fs.stream(file)).pipe(
    Stream.pipeThroughChannel(Csv.decodeString({ headers: true })),
    Stream.runCollect
  )
  return rows.map(({ categories = "", id, title = "" }) => ({
    id: Number(id),
    title,
    categories: categories.split(";")
  }))
}).pipe(Effect.provide(NodeServices.layer))

/** A catalogue of `count` mysteries and of books with unusual or missing fields. It has no self-help and no horror. */
const catalogue = (count: number) =>
  [
    "id,title,authors,year,isbn10,categories",
    ...Array.from({ length: count }, (_, index) => `${index + 1},Mystery ${index + 1},Author,,,MYSTERY`),
    `1001,"Æsop, ""retold"": 源氏物語 📚 e\u0301","Zoë Ångström,李白,Émile Zola",,,FANTASY;CLASSICS`,
    "1002,The Histories,Herodotus,-430,080701429X,HISTORY",
    "1003,Frankenstein,Mary Shelley,1818,0141439475,SCIENCE_FICTION",
    "2147483647,The Last Book,Anonymous,,0000000000,CHILDREN"
  ].join("\n")

layer(Layer.merge(Installation.layer, ForeignTools.layer))("Python's grpcio", (it) => {
  it.layer(Recommendations.layer)("with the shipped catalogue", (it) => {
    it.effect("gets distinct books of each category from the first API", () =>
      Effect.gen(function* () {
        const shipped = yield* shippedBooks
        const outcomes = yield* call(
          first({ user_id: 7 }),
          ...categoriesOfFirst.map((category) => first({ category, max_results: 1000 }))
        )

        const three = yield* firstBooks(outcomes[0])
        assertDistinct(three, 3)
        const mysteries = new Map(
          shipped.flatMap(({ categories, id, title }) => (categories.includes("MYSTERY") ? [[id, title] as const] : []))
        )
        for (const { id, title } of three) assert.strictEqual(title, mysteries.get(id), `the title of ${id}`)

        for (const [index, category] of categoriesOfFirst.entries()) {
          const all = shipped.flatMap(({ categories, id, title }) =>
            categories.includes(category) ? [{ id, title }] : []
          )
          // more would be truncated, which the other catalogue tests
          assert.isAtMost(all.length, 100)
          assert.deepStrictEqual(byId(yield* firstBooks(outcomes[index + 1])), byId(all))
        }
      })
    )

    it.effect("gets an error with details from the first API for each invalid field", () =>
      Effect.gen(function* () {
        const outcomes = yield* call(
          first({ category: 3 }),
          first({ category: 99 }),
          first({ category: -1 }),
          first({ user_id: -1 }),
          first({ max_results: 0 }),
          first({ max_results: -5 }),
          first({ user_id: -1, max_results: 0 }),
          first({ user_id: -1, max_results: -5, category: 99 }),
          // an empty request
          { call: "first.Recommend", request: {} }
        )
        assert.deepStrictEqual(
          outcomes.slice(0, 3),
          ["3", "99", "-1"].map((category) => categoryNotFound(category))
        )
        yield* assertInvalid(outcomes[3], ["user_id"])
        yield* assertInvalid(outcomes[4], ["max_results"])
        yield* assertInvalid(outcomes[5], ["max_results"])
        yield* assertInvalid(outcomes[6], ["user_id", "max_results"])
        // fields are checked before the category is looked up
        yield* assertInvalid(outcomes[7], ["user_id", "max_results"])
        yield* assertInvalid(outcomes[8], ["max_results"])
      })
    )

    it.effect("gets books of every category from the v1 API, ten by default", () =>
      Effect.gen(function* () {
        const shipped = yield* shippedBooks
        const outcomes = yield* call(
          v1(),
          v1({ user_id: 7, max_results: 4 }),
          v1({ max_results: 1000 }),
          v1({ category: "BOOK_CATEGORY_SELF_HELP", max_results: 2 }),
          listCategories
        )
        assertDistinct(yield* v1Books(outcomes[0]), 10)
        assertDistinct(yield* v1Books(outcomes[1]), 4)

        const hundred = yield* v1Books(outcomes[2])
        assertDistinct(hundred, 100)
        // no category holds a hundred books, so these come from several
        for (const { categories, id, title } of hundred) {
          const book = shipped.find((book) => book.id === id)
          assert.strictEqual(title, book?.title, `the title of ${id}`)
          assert.deepStrictEqual(
            categories.toSorted(),
            book?.categories.map((category) => `BOOK_CATEGORY_${category}`).toSorted(),
            `the categories of ${id}`
          )
        }

        const selfHelp = yield* v1Books(outcomes[3])
        assertDistinct(selfHelp, 2)
        for (const { categories } of selfHelp) assert.include(categories, "BOOK_CATEGORY_SELF_HELP")

        assert.deepStrictEqual(outcomes[4], {
          code: "OK",
          response: {
            categories: categoriesOfV1.map((category) => ({
              category: `BOOK_CATEGORY_${category}`,
              book_count: shipped.filter(({ categories }) => categories.includes(category)).length
            }))
          }
        })
      })
    )

    it.effect("gets an error with details from the v1 API for each invalid field", () =>
      Effect.gen(function* () {
        const outcomes = yield* call(
          v1({ category: 14 }),
          v1({ category: -1 }),
          v1({ user_id: -1 }),
          v1({ max_results: -1 }),
          v1({ user_id: -2_147_483_648, max_results: -2_147_483_648, category: 99 })
        )
        assert.deepStrictEqual(outcomes.slice(0, 2), [categoryNotFound("14"), categoryNotFound("-1")])
        yield* assertInvalid(outcomes[2], ["user_id"])
        yield* assertInvalid(outcomes[3], ["max_results"])
        yield* assertInvalid(outcomes[4], ["user_id", "max_results"])
      })
    )

    it.effect("gets books by compressed messages, and by one with a field of a newer version of the API", () =>
      Effect.gen(function* () {
        const outcomes = yield* call(
          // a proxy or the channel's settings can compress messages
          { ...first({}), gzip: true },
          { ...v1({ category: "BOOK_CATEGORY_HORROR" }), gzip: true },
          // field 15 is unknown
          { path: "/Recommendations/Recommend", message: "18017805" }
        )
        assertDistinct(yield* firstBooks(outcomes[0]), 3)
        assertDistinct(yield* v1Books(outcomes[1]), 10)
        const { code, response } = yield* decodePrinted(
          Schema.Struct({ code: Schema.String, response: Schema.String })
        )(outcomes[2])
        assert.strictEqual(code, "OK")
        // one book in field 1, with an id in its own field 1
        assert.match(response, /^0a..08/)
      })
    )
  })

  it.effect("checks health, and its Watch stream ends with NOT_SERVING when the server drains", () =>
    Effect.gen(function* () {
      const { start } = yield* Installation
      const recommendations = yield* start("recommendations", { DRAIN_TIMEOUT: "15s" })
      const { python } = yield* ForeignTools
      const check = (service: string): RawCall => ({
        path: "/grpc.health.v1.Health/Check",
        message: healthRequest(service)
      })
      const outcomes = yield* python(recommendations.port, [
        check(""),
        check("Recommendations"),
        check("onlinebooks.recommendations.v1.RecommendationsService"),
        check("onlinebooks.recommendations.v2.RecommendationsService"),
        {
          path: "/grpc.health.v1.Health/Watch",
          message: healthRequest("Recommendations"),
          terminate: recommendations.pid
        }
      ])
      const isServing = { code: "OK", response: "0801" }
      assert.deepStrictEqual(outcomes, [
        isServing,
        isServing,
        isServing,
        { code: "NOT_FOUND", message: "The server has no such service", status: null },
        // the stream has ended with OK
        { code: "OK", response: ["0801", "0802"] }
      ])
      assert.strictEqual(yield* recommendations.exitCode, 0)
      assert.include(yield* recommendations.output, "0 aborted")
    })
  )

  it.layer(Recommendations.layerCatalogue(catalogue(250)))("with hundreds of mysteries", (it) => {
    it.effect("gets at most a hundred books from the first API, in random order", () =>
      Effect.gen(function* () {
        const limits = [99, 100, 101, 200, 250, 2_147_483_647]
        const outcomes = yield* call(
          ...limits.map((max_results) => first({ max_results })),
          first({ category: "SCIENCE_FICTION", max_results: 200 }),
          first({ category: "SELF_HELP" })
        )
        const draws = yield* Effect.forEach(outcomes.slice(0, limits.length), firstBooks)
        for (const [index, books] of draws.entries()) {
          assertDistinct(books, Math.min(limits[index] ?? 0, 100))
          for (const { id, title } of books) assert.strictEqual(title, `Mystery ${id}`)
        }
        // the probability that two of them are equal is negligible
        assert.strictEqual(new Set(draws.slice(1).map((books) => ids(books).join())).size, limits.length - 1)

        assert.deepStrictEqual(yield* firstBooks(outcomes[6]), [{ id: 1003, title: "Frankenstein" }])
        // a category without books
        assert.deepStrictEqual(outcomes[7], categoryNotFound("SELF_HELP"))
      })
    )

    it.effect("gets all fields of a book from the v1 API", () =>
      Effect.gen(function* () {
        const outcomes = yield* call(
          v1({ category: "BOOK_CATEGORY_FANTASY" }),
          v1({ category: "BOOK_CATEGORY_CLASSICS" }),
          v1({ category: "BOOK_CATEGORY_HISTORY" }),
          v1({ category: "BOOK_CATEGORY_SCIENCE_FICTION" }),
          v1({ category: "BOOK_CATEGORY_CHILDREN" })
        )
        const retold = {
          id: 1001,
          title: 'Æsop, "retold": 源氏物語 📚 e\u0301',
          authors: ["Zoë Ångström", "李白", "Émile Zola"],
          categories: ["BOOK_CATEGORY_FANTASY", "BOOK_CATEGORY_CLASSICS"]
        }
        // Python omits a missing year and an empty ISBN
        assert.deepStrictEqual(yield* Effect.forEach(outcomes, v1Books), [
          [retold],
          [retold],
          [
            {
              id: 1002,
              title: "The Histories",
              authors: ["Herodotus"],
              year: -430,
              isbn10: "080701429X",
              categories: ["BOOK_CATEGORY_HISTORY"]
            }
          ],
          [
            {
              id: 1003,
              title: "Frankenstein",
              authors: ["Mary Shelley"],
              year: 1818,
              isbn10: "0141439475",
              categories: ["BOOK_CATEGORY_SCIENCE_FICTION"]
            }
          ],
          [
            {
              id: 2_147_483_647,
              title: "The Last Book",
              authors: ["Anonymous"],
              isbn10: "0000000000",
              categories: ["BOOK_CATEGORY_CHILDREN"]
            }
          ]
        ])
      })
    )

    it.effect("gets the limits and categories of the v1 API", () =>
      Effect.gen(function* () {
        const category = "BOOK_CATEGORY_MYSTERY"
        const limits = [0, 1, 99, 100, 101, 1000, 2_147_483_647]
        const outcomes = yield* call(
          ...limits.map((max_results) => v1({ category, max_results })),
          v1({ category: "BOOK_CATEGORY_HORROR" }),
          listCategories
        )
        const draws = yield* Effect.forEach(outcomes.slice(0, limits.length), v1Books)
        for (const [index, count] of [10, 1, 99, 100, 100, 100, 100].entries()) {
          assertDistinct(draws[index] ?? [], count)
        }
        assert.deepStrictEqual(outcomes[7], categoryNotFound("HORROR"))
        assert.deepStrictEqual(outcomes[8], {
          code: "OK",
          response: {
            categories: [
              { category: "BOOK_CATEGORY_MYSTERY", book_count: 250 },
              { category: "BOOK_CATEGORY_SCIENCE_FICTION", book_count: 1 },
              { category: "BOOK_CATEGORY_FANTASY", book_count: 1 },
              { category: "BOOK_CATEGORY_CLASSICS", book_count: 1 },
              { category: "BOOK_CATEGORY_HISTORY", book_count: 1 },
              { category: "BOOK_CATEGORY_CHILDREN", book_count: 1 }
            ]
          }
        })
      })
    )

    it.effect("gets, lists and finds books by the v1 API", () =>
      Effect.gen(function* () {
        const book = (id: number): StubCall => ({ call: "v1.GetBook", request: { book_id: id } })
        const list = (request: Request): StubCall => ({ call: "v1.ListBooks", request })
        const search = (query: string, request: Request = {}): StubCall => ({
          call: "v1.SearchBooks",
          request: { query, ...request }
        })
        const outcomes = yield* call(
          book(1003),
          book(1004),
          list({ page_size: 1000 }),
          list({ page_size: -1, page_token: "no token" }),
          search("frankenstein SHELL"),
          search("mystery 2", { page_size: 3 }),
          search("angstrom", { category: "BOOK_CATEGORY_FANTASY" }),
          search('"*'),
          search(" ")
        )
        const frankenstein = {
          id: 1003,
          title: "Frankenstein",
          authors: ["Mary Shelley"],
          year: 1818,
          isbn10: "0141439475",
          categories: ["BOOK_CATEGORY_SCIENCE_FICTION"]
        }
        assert.deepStrictEqual(outcomes[0], { code: "OK", response: { book: frankenstein } })
        assert.deepInclude(outcomes[1], { code: "NOT_FOUND", message: "Book not found" })
        const all = ids(yield* v1Books(outcomes[2]))
        assert.deepStrictEqual([all.length, all[0], all.at(-1)], [254, 1, 2_147_483_647])
        yield* assertInvalid(outcomes[3], ["page_size", "page_token"])
        assert.deepStrictEqual(yield* v1Books(outcomes[4]), [frankenstein])
        // the title equals the query, then shorter titles
        assert.deepStrictEqual(ids(yield* v1Books(outcomes[5])), [2, 20, 21])
        assert.deepStrictEqual(ids(yield* v1Books(outcomes[6])), [1001])
        assert.deepStrictEqual(outcomes[7], { code: "OK", response: {} })
        yield* assertInvalid(outcomes[8], ["query"])
      })
    )
  })
})

const categoriesOfFirst = ["MYSTERY", "SCIENCE_FICTION", "SELF_HELP"]

/** In the order of the enum. */
const categoriesOfV1 = [
  ...categoriesOfFirst,
  "FANTASY",
  "ROMANCE",
  "THRILLER",
  "HISTORICAL_FICTION",
  "CLASSICS",
  "HISTORY",
  "BIOGRAPHY",
  "YOUNG_ADULT",
  "CHILDREN",
  "HORROR"
]
