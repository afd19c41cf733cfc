/**
 * The statuses of calls with malformed messages, long deadlines or endless requests. The server keeps serving others.
 */
import { deflateSync, gzipSync } from "node:zlib"

import { assert, describe, it, vi } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"

import { GrpcCall } from "../../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcServer from "../../../../src/layers/grpc/GrpcServer.ts"
import * as Health from "../../../../src/layers/grpc/services/Health.ts"
import * as RawCall from "../../../integration/RawCall.ts"
import * as Echo from "../Echo.ts"

const pathOf = (method: string) => `/${Echo.EchoService.name}/${method}`

const framed = (message: Uint8Array, flag = 0, length = message.length) => {
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(length, 1)
  return Buffer.concat([prefix, message])
}

const empty = framed(Buffer.of())

const tooLarge = framed(Buffer.of(), 0, 2 ** 32 - 1)

/** Makes a call with a raw body, and succeeds with its status. Asserts that the next call succeeds and none is left. */
const statusOf = Effect.fnUntraced(function* (
  method: string,
  body: ReadonlyArray<Uint8Array>,
  headers: Readonly<Record<string, string>> = {}
) {
  const target = yield* Echo.target
  const status = yield* RawCall.send(target, { path: pathOf(method), body: Buffer.concat(body), headers })
  const { EchoOnce } = yield* Echo.client
  assert.strictEqual((yield* EchoOnce({ text: "still here" })).text, "still here")
  const { load } = yield* GrpcServer.GrpcServer
  assert.deepInclude(yield* load, { answering: 0, waiting: 0 })
  return status
})

describe("a request with", () => {
  const cases: ReadonlyArray<{
    readonly what: string
    readonly method: string
    readonly body: ReadonlyArray<Uint8Array>
    readonly status: string
    readonly encoding?: string
  }> = [
    {
      what: "a compressed message and the prefix of a large one",
      method: "Echo",
      body: [framed(gzipSync(Buffer.of()), 1), tooLarge],
      status: "8",
      encoding: "gzip"
    },
    { what: "two messages", method: "Echo", body: [empty, empty], status: "12" },
    { what: "two messages", method: "Expand", body: [empty, empty], status: "12" },
    { what: "no message", method: "Echo", body: [], status: "12" },
    { what: "no message", method: "Expand", body: [], status: "12" },
    { what: "half a prefix", method: "Echo", body: [Buffer.of(0, 0)], status: "13" },
    { what: "a message that is too large", method: "Echo", body: [tooLarge], status: "8" },
    { what: "a message that is too large", method: "Chat", body: [empty, tooLarge], status: "8" },
    {
      what: "a message that does not decompress",
      method: "Echo",
      body: [framed(Buffer.of(1, 2), 1)],
      status: "13",
      encoding: "gzip"
    },
    {
      what: "an unknown encoding",
      method: "Echo",
      body: [framed(Buffer.of(1, 2), 1)],
      status: "12",
      encoding: "snappy"
    },
    {
      what: "a compressed message",
      method: "Echo",
      body: [framed(deflateSync(Buffer.of()), 1)],
      status: "0",
      encoding: "deflate"
    },
    {
      what: "a message that decompresses to more than is allowed",
      method: "Echo",
      body: [framed(gzipSync(Buffer.alloc(1_000_000)), 1)],
      status: "8",
      encoding: "gzip"
    }
  ]
  it.live.each(cases)("$what, for $method, gets status $status", ({ body, encoding, method, status }) =>
    Effect.gen(function* () {
      const headers = encoding === undefined ? {} : { "grpc-encoding": encoding }
      assert.strictEqual(yield* statusOf(method, body, headers), status)
    }).pipe(Effect.scoped, Effect.provide(Echo.serve()))
  )
})

describe("a deadline", () => {
  const day = 24 * 3_600
  it.live.each([
    { timeout: "1H", seconds: 3_600 },
    { timeout: "600H", seconds: 2 ** 31 / 1000 },
    { timeout: "2160H", seconds: 2 ** 31 / 1000 },
    { timeout: "99999999H", seconds: 2 ** 31 / 1000 },
    { timeout: "99999999M", seconds: 2 ** 31 / 1000 },
    { timeout: "99999999S", seconds: 2 ** 31 / 1000 },
    { timeout: "99999999m", seconds: day + 13_599.999 },
    { timeout: "99999999u", seconds: 99.999999 }
  ])("of $timeout is kept, or capped at 24.8 days", ({ seconds, timeout }) =>
    Effect.gen(function* () {
      let left = 0
      const handler: typeof Echo.echo = (request) =>
        Effect.andThen(
          Effect.map(GrpcCall, ({ deadline }) => void (left = (deadline - performance.now()) / 1000)),
          Echo.echo(request)
        )
      yield* Effect.gen(function* () {
        const target = yield* Echo.target
        const headers = { "grpc-timeout": timeout }
        assert.strictEqual(yield* RawCall.send(target, { path: pathOf("Echo"), body: empty, headers }), "0")
      }).pipe(Effect.provide(Echo.serve({ Echo: handler })))
      assert.closeTo(left, seconds, 10)
    })
  )

  it.live("does not move with the wall clock", () =>
    Effect.gen(function* () {
      const now = Date.now()
      let left = 0
      const handler: typeof Echo.echo = (request) =>
        Effect.gen(function* () {
          const clock = vi.spyOn(Date, "now").mockReturnValue(now + 3_600_000)
          const { deadline } = yield* GrpcCall
          left = (deadline - performance.now()) / 1000
          clock.mockRestore()
          return yield* Echo.echo(request)
        })
      yield* Effect.gen(function* () {
        const headers = { "grpc-timeout": "60S" }
        const target = yield* Echo.target
        assert.strictEqual(yield* RawCall.send(target, { path: pathOf("Echo"), body: empty, headers }), "0")
      }).pipe(Effect.provide(Echo.serve({ Echo: handler })))
      assert.closeTo(left, 60, 10)
    })
  )
})

const HealthLayer = Layer.effectDiscard(Health.Health).pipe(Layer.provide(Health.Health.layer))

it.live("a health watch accepts a request of up to 4 KiB", () =>
  Effect.gen(function* () {
    const target = yield* Echo.target
    const watch = { path: "/grpc.health.v1.Health/Watch", body: framed(Buffer.alloc(5_000)) }
    assert.strictEqual(yield* RawCall.send(target, watch), "8")
  }).pipe(Effect.scoped, Effect.provide(Echo.serve({}, { beside: HealthLayer })))
)

it.live("a call ends when its handler fails, although requests are still to come", () =>
  Effect.gen(function* () {
    const held = yield* RawCall.hold(Number((yield* Echo.target).split(":")[1]), pathOf("Collect"))
    yield* held.send
    assert.strictEqual(yield* held.status, "3")
    const { load } = yield* GrpcServer.GrpcServer
    assert.deepInclude(yield* load, { answering: 0 })
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Echo.serve({
        Collect: (requests) => Effect.andThen(Stream.runHead(requests), new Echo.Refused({ field: "text" }))
      })
    )
  )
)
