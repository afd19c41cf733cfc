/**
 * Back-pressure: handlers and clients produce messages at most one window ahead of their reader. The window is documented in GrpcServer;
 * these tests measure it.
 */
import { fileURLToPath } from "node:url"

import { assert, describe, it } from "@effect/vitest"
import {
  type ClientReadableStream,
  credentials,
  loadPackageDefinition,
  type ServiceClientConstructor
} from "@grpc/grpc-js"
import { load } from "@grpc/proto-loader"
import { Deferred, Effect, Fiber, Queue, Stream } from "effect"

import type { EchoServiceClient } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoService.ts"
import * as Echo from "./Echo.ts"

const million = 1_000_000

/** The flow-control window of HTTP/2 (RFC 9113, section 6.9.2) and the buffer of the reader's Node stream, in bytes. */
const inTransit = 65_535 + 65_536
/** The buffer of grpc-js' client for retries, which it fills until the server answers, in bytes. */
const retryBuffer = 1_048_576
/** The prefix of a message, in bytes. */
const prefix = 5
/** The messages in the object-mode buffers of both sides, and one in progress on each side. */
const buffered = 2 * 16 + 2

/** The number of messages that a sender may be ahead, by the sizes of a message and of a chunk. */
const window = (size: number, chunk: number, bytes = inTransit) => Math.ceil(bytes / (size + prefix)) + buffered + chunk

const shapes = [
  { what: "tiny messages, one at a time", text: "", chunk: 1 },
  { what: "tiny messages, 4,096 at a time", text: "", chunk: 4_096 },
  { what: "messages of a kilobyte, one at a time", text: "x".repeat(1_000), chunk: 1 },
  { what: "messages of a kilobyte, 500 at a time", text: "x".repeat(1_000), chunk: 500 },
  { what: "messages larger than the window, one at a time", text: "x".repeat(200_000), chunk: 1 }
] as const

/** The encoded size of a message with only a text. */
const sizeOf = (text: string) => text.length + (text.length < 128 ? 2 : text.length < 16_384 ? 3 : 4)

/** A lazy stream of a million messages, and the number of those produced. */
const producer = (text: string, chunk: number) => {
  const made = { count: 0 }
  const messages = Stream.unfold(0, (from) =>
    Effect.sync(() => {
      if (from >= million) return undefined
      made.count += chunk
      return [Array.from({ length: chunk }, () => ({ text, items: [] })), from + chunk] as const
    })
  ).pipe(
    Stream.rechunk(1),
    Stream.flatMap((chunk) => Stream.fromArray(chunk))
  )
  return { made, messages }
}

/** Waits until a count stops growing. In between it makes calls on the same connection, which are sent after the messages in transit. */
const settled = Effect.fnUntraced(function* (call: Effect.Effect<unknown, unknown>, count: () => number) {
  let before = -1
  while (before !== count()) {
    before = count()
    for (let turns = 0; turns < 20; turns++) yield* Effect.orDie(call)
  }
  return before
})

/** A plain client of grpc-js. */
const plainClient = Effect.gen(function* () {
  const definition = yield* Effect.promise(() =>
    load("echo.proto", { includeDirs: [fileURLToPath(new URL("../../../src/layers/testing", import.meta.url))] })
  )
  const { onlinebooks } = loadPackageDefinition(definition) as unknown as {
    readonly onlinebooks: { readonly layers: { readonly testing: { readonly EchoService: ServiceClientConstructor } } }
  }
  const target = yield* Echo.target
  return yield* Effect.acquireRelease(
    Effect.sync(
      () =>
        new onlinebooks.layers.testing.EchoService(target, credentials.createInsecure()) as unknown as EchoServiceClient
    ),
    (client) => Effect.sync(() => client.close())
  )
})

const plainEcho = (client: EchoServiceClient) =>
  Effect.callback<void>((resume) => {
    client.Echo({}, () => resume(Effect.void))
  })

describe("a handler with a million responses", () => {
  it.live.each(shapes)(
    "is at most a window ahead of a client that reads ten, and stops when the client cancels: $what",
    (shape) => {
      const { chunk, text } = shape
      const { made, messages } = producer(text, chunk)
      return Effect.gen(function* () {
        const finalized = yield* Deferred.make<void>()
        yield* Effect.gen(function* () {
          const { Echo: call, Expand } = yield* Echo.client
          const read = yield* Deferred.make<void>()
          let taken = 0
          const reading = yield* Expand({}).pipe(
            Stream.rechunk(1),
            Stream.runForEach(() =>
              ++taken < 10 ? Effect.void : Effect.andThen(Deferred.succeed(read, undefined), Effect.never)
            ),
            Effect.forkChild
          )
          yield* Deferred.await(read)
          const ahead = (yield* settled(call({}), () => made.count)) - taken
          assert.isAtMost(ahead, window(sizeOf(text), chunk))
          yield* Fiber.interrupt(reading)
          yield* Deferred.await(finalized)
          assert.strictEqual(made.count - taken, ahead)
        }).pipe(
          Effect.provide(
            Echo.serve({ Expand: () => Stream.ensuring(messages, Deferred.succeed(finalized, undefined)) })
          )
        )
      })
    }
  )

  it.live.each(shapes)("is at most a window ahead of a client of grpc-js: $what", (shape) => {
    const { chunk, text } = shape
    const { made, messages } = producer(text, chunk)
    return Effect.gen(function* () {
      const finalized = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const client = yield* plainClient
        let taken = 0
        const call: ClientReadableStream<unknown> = client.Expand({})
        call.on("error", () => {})
        yield* Effect.callback<void>((resume) => {
          call.on("data", () => {
            if (++taken < 10) return
            call.pause()
            call.removeAllListeners("data")
            resume(Effect.void)
          })
        })
        const ahead = (yield* settled(plainEcho(client), () => made.count)) - taken
        assert.isAtMost(ahead, window(sizeOf(text), chunk))
        call.cancel()
        yield* Deferred.await(finalized)
      }).pipe(
        Effect.provide(Echo.serve({ Expand: () => Stream.ensuring(messages, Deferred.succeed(finalized, undefined)) }))
      )
    })
  })
})

describe("a client with a million requests", () => {
  it.live.each(shapes)("is at most a window ahead of a handler that reads ten and then fails: $what", (shape) => {
    const { chunk, text } = shape
    const { made, messages } = producer(text, chunk)
    return Effect.gen(function* () {
      const read = yield* Deferred.make<void>()
      const refuse = yield* Deferred.make<void>()
      const finalized = yield* Deferred.make<void>()
      let taken = 0
      const Collect: typeof Echo.handlers.Collect = (requests) =>
        requests.pipe(
          Stream.rechunk(1),
          Stream.runForEach(() =>
            ++taken < 10
              ? Effect.void
              : Deferred.succeed(read, undefined).pipe(
                  Effect.andThen(Deferred.await(refuse)),
                  Effect.andThen(new Echo.Refused({ field: "text" }))
                )
          ),
          Effect.as({ text: "", items: [] })
        )
      const {
        client: { Collect: collect, Echo: call }
      } = yield* Echo.start({ Collect })
      const requests = messages.pipe(
        Stream.map(({ text }) => ({ text })),
        Stream.ensuring(Deferred.succeed(finalized, undefined))
      )
      const sending = yield* Effect.forkChild(Effect.flip(collect(requests)))
      yield* Deferred.await(read)
      const ahead = (yield* settled(call({}), () => made.count)) - taken
      assert.isAtMost(ahead, window(sizeOf(text), chunk, retryBuffer))
      yield* Deferred.succeed(refuse, undefined)
      assert.strictEqual((yield* Fiber.join(sending)).reason._tag, "InvalidArgument")
      yield* Deferred.await(finalized)
    })
  })
})

describe("a bidirectional call", () => {
  it.live("exchanges 10,000 messages one by one", () =>
    Effect.gen(function* () {
      const { Chat } = yield* Echo.client
      const turns = yield* Queue.unbounded<number>()
      yield* Queue.offer(turns, 0)
      const answered: Array<number> = []
      yield* Chat(Stream.map(Stream.fromQueue(turns), (turn) => ({ text: String(turn) }))).pipe(
        Stream.take(10_000),
        // each request depends on the response before it
        Stream.runForEach(({ text }) =>
          Effect.andThen(
            Effect.sync(() => answered.push(Number(text))),
            Queue.offer(turns, Number(text) + 1)
          )
        )
      )
      assert.deepStrictEqual(
        answered,
        Array.from({ length: 10_000 }, (_, index) => index)
      )
    }).pipe(Effect.provide(Echo.serve()))
  )

  it.live("stops the requests of a client that stops reading, through the handler", () => {
    const { made, messages } = producer("x".repeat(1_000), 1)
    return Effect.gen(function* () {
      const { Chat, Echo: call } = yield* Echo.client
      const read = yield* Deferred.make<void>()
      let taken = 0
      const chatting = yield* Chat(Stream.map(messages, ({ text }) => ({ text }))).pipe(
        Stream.rechunk(1),
        Stream.runForEach(() =>
          ++taken < 10 ? Effect.void : Effect.andThen(Deferred.succeed(read, undefined), Effect.never)
        ),
        Effect.forkChild
      )
      yield* Deferred.await(read)
      const ahead = (yield* settled(call({}), () => made.count)) - taken
      // a window of requests, and one of responses
      assert.isAtMost(ahead, window(1_003, 1, retryBuffer) + window(1_003, 1))
      yield* Fiber.interrupt(chatting)
    }).pipe(Effect.provide(Echo.serve()))
  })
})
