/**
 * The client's limits on responses: real calls to a faulty backend on node:http2.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Result } from "effect"

import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import { RecommendationsClient } from "../../src/marketplace/RecommendationsClient.ts"
import * as Http2Backend from "../layers/grpc/Http2Backend.ts"

const field = (number: number, bytes: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([number * 8 + 2]), varint(bytes.length), bytes])

const varint = (value: number): Buffer => {
  const bytes: Array<number> = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128)
  return Buffer.from([...bytes, rest])
}

interface Book {
  readonly title?: string
  readonly authors?: ReadonlyArray<string>
  readonly categories?: ReadonlyArray<number>
}

/** A book, as field 1 of a response. */
const book = ({ authors = [], categories = [], title = "" }: Book): Buffer =>
  field(
    1,
    Buffer.concat([
      field(2, Buffer.from(title)),
      ...authors.map((author) => field(3, Buffer.from(author))),
      field(6, Buffer.from(categories))
    ])
  )

/** A client of a backend that responds to every call with `message`. */
const clientOf = Effect.fnUntraced(function* (message: Buffer) {
  const port = yield* Http2Backend.serve((stream) =>
    Http2Backend.respond(stream, Http2Backend.frame(message), { "grpc-status": "0" })
  )
  const context = yield* Layer.build(
    RecommendationsClient.layer.pipe(Layer.provide(NodeGrpcChannel.layer({ target: `127.0.0.1:${port}` })))
  )
  return yield* RecommendationsClient.pipe(Effect.provideContext(context))
})

const times = (count: number, bytes: Buffer) => Buffer.concat(Array.from({ length: count }, () => bytes))

describe("RecommendationsClient", () => {
  it.live("drops books above the requested number before it decodes them", () =>
    Effect.gen(function* () {
      const client = yield* clientOf(
        Buffer.concat([
          book({ title: "first" }),
          times(10_000, book({ title: "again" })),
          times(50_000, field(1, Buffer.of()))
        ])
      )
      const startedAt = process.cpuUsage()
      for (let call = 0; call < 100; call++) {
        const books = yield* client.recommend("MYSTERY", 3)
        assert.deepStrictEqual(
          books.map(({ title }) => title),
          ["first", "again", "again"]
        )
      }
      // receiving 21 MB takes most of this time
      assert.isBelow(process.cpuUsage(startedAt).user, 2_000_000)
    })
  )

  it.live("rejects a response of 3.9 MB", () =>
    Effect.gen(function* () {
      const client = yield* clientOf(times(3, book({ title: "a".repeat(1_300_000) })))
      const outcome = yield* Effect.result(client.recommend("MYSTERY", 3))
      assert.strictEqual(Result.isFailure(outcome) && outcome.failure._tag, "RecommendationsUnavailable")
    })
  )

  it.live("accepts a response of the maximum number of books of the maximum size", () =>
    Effect.gen(function* () {
      const largest = { title: "😀".repeat(512), authors: Array.from({ length: 5 }, () => "a".repeat(90)) }
      const client = yield* clientOf(
        times(100, book({ ...largest, categories: Array.from({ length: 13 }, (_, at) => at + 1) }))
      )
      const books = yield* client.recommend("MYSTERY", 100)
      assert.strictEqual(books.length, 100)
      for (const { authors, title } of books) {
        assert.strictEqual(title, largest.title)
        assert.deepStrictEqual(authors, largest.authors)
      }
    })
  )

  it.live("truncates long texts, and drops books that are too large", () =>
    Effect.gen(function* () {
      const client = yield* clientOf(
        Buffer.concat([
          book({ title: "😀".repeat(600), authors: [...Array.from({ length: 50 }, () => ""), "b".repeat(600)] }),
          book({ title: "a".repeat(17_000) }),
          book({ title: "third", authors: ["c".repeat(600)], categories: [1, 1, 99, 1, 2] })
        ])
      )
      const [first, third] = yield* client.recommend("MYSTERY", 3)
      assert.strictEqual(first!.title, "😀".repeat(512))
      assert.strictEqual(first!.authors.length, 32)
      assert.strictEqual(third!.title, "third")
      assert.deepStrictEqual(third!.authors, ["c".repeat(512)])
      assert.deepStrictEqual(third!.categories, ["MYSTERY", "SCIENCE_FICTION"])
    })
  )

  it.live("lists each category once", () =>
    Effect.gen(function* () {
      const client = yield* clientOf(times(40_000, field(1, Buffer.from([0x08, 1]))))
      assert.deepStrictEqual(yield* client.categories, ["MYSTERY"])
    })
  )
})
