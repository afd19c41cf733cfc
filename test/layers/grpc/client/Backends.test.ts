/**
 * Backends that violate the protocol or send too much: the call fails with a status, and later calls succeed.
 */
import { gzipSync } from "node:zlib"

import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Scope, Stream } from "effect"

import { defaultPolicy } from "../../../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import * as RetryPolicy from "../../../../src/layers/grpc/RetryPolicy.ts"
import * as Echo from "../Echo.ts"
import * as Http2Backend from "../Http2Backend.ts"

const options = { timeout: "20 seconds" } as const

const once = { policy: { retry: RetryPolicy.never } }

/** The statuses with which calls of both kinds with a single response fail. */
const failures = Effect.fnUntraced(function* (answer: Parameters<typeof Http2Backend.serve>[0]) {
  const client = yield* Http2Backend.connect(yield* Http2Backend.serve(answer), once)
  return yield* Effect.forEach(
    [client.Echo({}, options), client.Collect(Stream.make({ text: "a" }), options)],
    (call) => Effect.map(Effect.flip(call), ({ reason }) => reason)
  )
})

const two = Buffer.concat([Http2Backend.response("one"), Http2Backend.response("two")])

describe("a call with a single response that receives two", () => {
  it.live("fails with the error status that follows", () =>
    Effect.gen(function* () {
      const startedAt = performance.now()
      const reasons = yield* failures((stream) =>
        Http2Backend.respond(stream, two, { "grpc-status": "10", "grpc-message": "lost", "x-more": "1" })
      )
      for (const { _tag, message, metadata } of reasons) {
        assert.deepStrictEqual([_tag, message, metadata.get("x-more")], ["Aborted", "lost", ["1"]])
      }
      assert.isBelow(performance.now() - startedAt, 10_000)
    })
  )

  it.live("fails with UNIMPLEMENTED if the status is OK", () =>
    Effect.gen(function* () {
      const reasons = yield* failures((stream) => Http2Backend.respond(stream, two, { "grpc-status": "0" }))
      for (const { _tag, message } of reasons) {
        assert.deepStrictEqual([_tag, message], ["Unimplemented", "Too many responses received"])
      }
    })
  )

  it.live("fails with UNIMPLEMENTED if the messages never end", () =>
    Effect.gen(function* () {
      const reasons = yield* failures((stream) => {
        stream.respond({ ":status": 200, "content-type": "application/grpc" })
        stream.write(Buffer.concat(Array.from({ length: 100 }, () => Http2Backend.response("more"))))
      })
      for (const { _tag } of reasons) assert.strictEqual(_tag, "Unimplemented")
    })
  )
})

describe("a response without a message", () => {
  it.live("fails with UNIMPLEMENTED and keeps its trailers", () =>
    Effect.gen(function* () {
      const reasons = yield* failures((stream) =>
        Http2Backend.respond(stream, Buffer.alloc(0), { "grpc-status": "0", "x-more": "1" })
      )
      for (const { _tag, message, metadata } of reasons) {
        assert.deepStrictEqual([_tag, message, metadata.get("x-more")], ["Unimplemented", "No message received", ["1"]])
      }
    })
  )
})

describe("a compressed response", () => {
  it.live.each([{ "grpc-encoding": "zstd" }, {}])(
    "with the headers %j fails with an error that names the encoding",
    (headers) =>
      Effect.gen(function* () {
        const reasons = yield* failures((stream) =>
          Http2Backend.respond(stream, Http2Backend.frame(Buffer.from("?"), true), { "grpc-status": "0" }, headers)
        )
        for (const { _tag, message } of reasons) {
          assert.strictEqual(_tag, "Internal")
          assert.match(message, /compressed by an encoding that is unknown/)
        }
        const port = yield* Http2Backend.serve((stream) =>
          Http2Backend.respond(stream, Http2Backend.frame(Buffer.from("?"), true), { "grpc-status": "0" }, headers)
        )
        const client = yield* Http2Backend.connect(port, once)
        for (const stream of [client.Expand({}, options), client.Chat(Stream.make({ text: "a" }), options)]) {
          assert.match(
            (yield* Effect.flip(Stream.runDrain(stream))).message,
            /compressed by an encoding that is unknown/
          )
        }
      })
  )

  it.live("is not decompressed beyond the size limit", () =>
    Effect.gen(function* () {
      const bomb = gzipSync(Buffer.alloc(100 * 1024 * 1024))
      const before = process.memoryUsage().arrayBuffers
      const reasons = yield* failures((stream) =>
        Http2Backend.respond(
          stream,
          Http2Backend.frame(bomb, true),
          { "grpc-status": "0" },
          { "grpc-encoding": "gzip" }
        )
      )
      for (const { _tag, message } of reasons) {
        assert.strictEqual(_tag, "ResourceExhausted")
        assert.match(message, /larger than 262144/)
      }
      assert.isBelow(process.memoryUsage().arrayBuffers - before, 50 * 1024 * 1024)
    })
  )
})

describe("a response above the size limit", () => {
  it.live("fails the call once its length prefix is received", () =>
    Effect.gen(function* () {
      const reasons = yield* failures((stream) =>
        Http2Backend.respond(stream, Http2Backend.frame(Buffer.alloc(256 * 1024 + 1)), { "grpc-status": "0" })
      )
      for (const { _tag } of reasons) assert.strictEqual(_tag, "ResourceExhausted")
    })
  )
})

describe("the message of a status", () => {
  it.live.each([
    ["a%3A b%2C c%2F", "a: b, c/"],
    ["a%3a", "a:"],
    ["%2525 %253A", "%25 %3A"],
    ["100%", "100%"],
    ["%zz %3A %", "%zz : %"],
    ["%e4%bd%a0", "你"],
    ["%FF%3A", "\uFFFD:"],
    ["%20a%20", " a "],
    ["%F0%9F%98%80%", "😀%"]
  ])("%s is percent-decoded once", ([encoded, expected]) =>
    Effect.gen(function* () {
      for (const isAlone of [true, false]) {
        const trailers = { "grpc-status": "9", "grpc-message": encoded }
        const reasons = yield* failures((stream) =>
          isAlone
            ? Http2Backend.respondStatus(stream, trailers)
            : Http2Backend.respond(stream, Buffer.alloc(0), trailers)
        )
        for (const { message } of reasons) assert.strictEqual(message, expected)
      }
    })
  )
})

describe("a binary header with many values", () => {
  const commas = ",".repeat(15_000)

  it.live.each(["headers", "trailers", "status alone"] as const)("in the %s is removed or fails the call", (place) =>
    Effect.gen(function* () {
      const many = { "x-bin": commas }
      const [unary, collect] = yield* failures((stream) => {
        if (place === "headers") Http2Backend.respond(stream, Http2Backend.response("a"), { "grpc-status": "0" }, many)
        else if (place === "trailers") {
          Http2Backend.respond(stream, Http2Backend.response("a"), { "grpc-status": "0", ...many })
        } else Http2Backend.respondStatus(stream, { "grpc-status": "9", ...many })
      })
      for (const reason of [unary!, collect!]) {
        // a Trailers-Only response keeps its status, without the header
        assert.strictEqual(reason._tag, place === "status alone" ? "FailedPrecondition" : "ResourceExhausted")
        assert.deepStrictEqual(reason.metadata.get("x-bin"), [])
      }
    })
  )

  it.live("is accepted with up to 64 values", () =>
    Effect.gen(function* () {
      for (const [count, tag] of [
        [64, "OK"],
        [65, "ResourceExhausted"]
      ] as const) {
        const port = yield* Http2Backend.serve((stream) => {
          const headers = { "x-bin": Array.from({ length: count }, () => "YQ==").join(",") }
          Http2Backend.respond(stream, Http2Backend.response("a"), { "grpc-status": "0" }, headers)
        })
        const client = yield* Http2Backend.connect(port, once)
        const outcome = Effect.match(client.Echo({}, options), {
          onSuccess: () => "OK",
          onFailure: ({ reason }) => reason._tag
        })
        assert.strictEqual(yield* outcome, tag)
      }
    })
  )

  it.live("is returned to the caller if it has few values", () =>
    Effect.gen(function* () {
      const [reason] = yield* failures((stream) =>
        Http2Backend.respondStatus(stream, { "grpc-status": "9", "x-bin": "YQ==,Yg==" })
      )
      assert.deepStrictEqual(reason?.metadata.get("x-bin").map(String), ["a", "b"])
    })
  )
})

describe("headers above the limits of Node", () => {
  it.live.each([
    ["200 headers", Object.fromEntries(Array.from({ length: 200 }, (_, at) => [`x-${at}`, "1"]))],
    ["a header of 70 kB", { "x-long": "a".repeat(70_000) }]
  ] as const)("%s fail the call, and the next call succeeds", ([, many]) =>
    Effect.gen(function* () {
      let isHostile = true
      const port = yield* Http2Backend.serve((stream) =>
        Http2Backend.respond(stream, Http2Backend.response("a"), { "grpc-status": "0" }, isHostile ? many : {})
      )
      const client = yield* Http2Backend.connect(port, once)
      yield* Effect.flip(client.Echo({}, options))
      isHostile = false
      assert.strictEqual((yield* client.Echo({}, options)).text, "a")
    })
  )
})

describe("a channel", () => {
  it.live("that is closed fails calls of each kind with UNAVAILABLE", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const client = yield* Effect.gen(function* () {
        const port = yield* Http2Backend.serve((stream) => stream.close())
        return yield* Http2Backend.connect(port)
      }).pipe(Scope.provide(scope))
      yield* Scope.close(scope, Exit.void)
      const calls = [
        client.Echo({}, options),
        Stream.runDrain(client.Expand({}, options)),
        client.Collect(Stream.empty, options),
        Stream.runDrain(client.Chat(Stream.empty, options))
      ]
      for (const call of calls) {
        const { reason } = yield* Effect.flip(call)
        assert.strictEqual(reason._tag, "Unavailable")
        assert.match(reason.message, /is closed$|^Circuit breaker is open for /)
      }
    })
  )

  it.live("sheds calls above maxCalls", () =>
    Effect.gen(function* () {
      const streams: Array<() => void> = []
      const port = yield* Http2Backend.serve((stream) => {
        const answer = () => Http2Backend.respond(stream, Http2Backend.response("a"), { "grpc-status": "0" })
        streams.push(answer)
        if (streams.length === 2) for (const answer of streams) answer()
        else if (streams.length > 2) answer()
      })
      const client = yield* Http2Backend.connect(port, { policy: { retry: RetryPolicy.never, maxCalls: 2 } })
      const outcomes = yield* Effect.forEach(
        [1, 2, 3],
        () => Effect.match(client.Echo({}, options), { onSuccess: () => "OK", onFailure: ({ reason }) => reason._tag }),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(outcomes, ["OK", "OK", "ResourceExhausted"])
      // finished calls do not count
      for (let call = 0; call < 5; call++) yield* client.Echo({}, options)
    })
  )

  it.live("ignores http_proxy and grpc_proxy by default", () =>
    Effect.gen(function* () {
      const port = yield* Http2Backend.serve((stream) =>
        Http2Backend.respond(stream, Http2Backend.response("a"), { "grpc-status": "0" })
      )
      yield* withEnvironment({ http_proxy: "http://127.0.0.1:1", grpc_proxy: "http://127.0.0.1:1" })
      const client = yield* Http2Backend.connect(port)
      assert.strictEqual((yield* client.Echo({}, options)).text, "a")
      const proxied = yield* Http2Backend.connect(port, { ...once, useHttpProxy: true })
      assert.strictEqual((yield* Effect.flip(proxied.Echo({}, { timeout: "1 second" }))).reason._tag, "Unavailable")
    })
  )
})

/** Sets environment variables until the scope closes. */
const withEnvironment = (variables: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = Object.keys(variables).map((name) => [name, process.env[name]] as const)
      Object.assign(process.env, variables)
      return before
    }),
    (before) =>
      Effect.sync(() => {
        for (const [name, value] of before) {
          if (value === undefined) delete process.env[name]
          else process.env[name] = value
        }
      })
  )

describe("a wall clock change", () => {
  it.live.each([-3_600_000, 3_600_000])("by %d ms between attempts neither shortens nor prolongs a call", (shift) =>
    Effect.gen(function* () {
      const now = Date.now
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          Date.now = now
        })
      )
      const timeouts: Array<number> = []
      const context = yield* Layer.build(
        Echo.serve({
          Echo: () =>
            // at each call
            Effect.suspend(() => {
              Date.now = () => now() + shift
              return timeouts.push(0) < 3 ? Effect.never : Effect.succeed({ text: "third", items: [] })
            })
        })
      )
      const channel = NodeGrpcChannel.layer({
        target: yield* Effect.provideContext(Echo.target, context),
        policy: { retry: { ...defaultPolicy.retry, maxAttempts: 6 } }
      })
      const client = yield* Effect.provideContext(
        GrpcClient.make(Echo.EchoService),
        Context.merge(context, yield* Layer.build(channel))
      )
      assert.strictEqual((yield* client.Echo({}, options)).text, "third")
      timeouts.length = 0
      Date.now = now
      const startedAt = performance.now()
      const error = yield* Effect.flip(client.Echo({}, { timeout: "300 millis" }))
      assert.strictEqual(error.reason._tag, "DeadlineExceeded")
      assert.isBelow(performance.now() - startedAt, 5_000)
    })
  )
})
