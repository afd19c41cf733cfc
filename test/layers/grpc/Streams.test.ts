/**
 * Calls of all four kinds between the server and the client: messages and metadata each way, and what happens when one side ends, fails,
 * or disconnects first.
 */
import { assert, describe, it } from "@effect/vitest"
import { Metadata } from "@grpc/grpc-js"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Logger, Queue, Result, Scope, Stream } from "effect"

import { Deadline } from "../../../src/layers/grpc/GrpcCall.ts"
import { GrpcCall, type Kind } from "../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import type { GrpcError } from "../../../src/layers/grpc/GrpcError.ts"
import { Drain } from "../../../src/layers/process/Drain.ts"
import type { EchoResponse__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoResponse.ts"
import * as Echo from "./Echo.ts"

const kinds: ReadonlyArray<Kind> = ["unary", "serverStream", "clientStream", "bidi"]
const streams = kinds.filter((kind) => kind !== "unary")

type Client = Effect.Success<typeof Echo.client>

const texts = (...all: ReadonlyArray<string>) => Stream.fromIterable(all.map((text) => ({ text })))

/** Makes a call of a kind, and returns the texts of its responses. */
const call = (client: Client, kind: Kind, options?: GrpcClient.CallOptions) => {
  const calls: { readonly [K in Kind]: Effect.Effect<ReadonlyArray<EchoResponse__Output>, GrpcError> } = {
    unary: Effect.map(client.EchoOnce({ text: "a b" }, options), (response) => [response]),
    serverStream: Stream.runCollect(client.Expand({ text: "a b", numbers: [1] }, options)),
    clientStream: Effect.map(client.Collect(texts("a", "b"), options), (response) => [response]),
    bidi: Stream.runCollect(client.Chat(texts("a b"), options))
  }
  return Effect.map(calls[kind], (responses) => responses.map(({ text }) => text))
}

/** Makes a call of a kind that the client never ends. */
const callWithoutEnd = (
  client: Client,
  kind: Kind,
  options?: GrpcClient.CallOptions
): Effect.Effect<void, GrpcError> => {
  const requests = Stream.concat(texts("a"), Stream.never)
  return {
    unary: Effect.asVoid(client.EchoOnce({ text: "a" }, options)),
    serverStream: Stream.runDrain(client.Expand({ text: "a" }, options)),
    clientStream: Effect.asVoid(client.Collect(requests, options)),
    bidi: Stream.runDrain(client.Chat(requests, options))
  }[kind]
}

/** The default handlers, each of which runs an effect first. */
const before = (effect: Effect.Effect<unknown, Echo.Refused, GrpcCall>) => ({
  EchoOnce: ((request) => Effect.andThen(effect, Echo.echo(request))) as typeof Echo.handlers.EchoOnce,
  Expand: ((request) => Stream.unwrap(Effect.as(effect, Echo.handlers.Expand(request)))) as typeof Echo.handlers.Expand,
  Collect: ((requests) => Effect.andThen(effect, Echo.handlers.Collect(requests))) as typeof Echo.handlers.Collect,
  Chat: ((requests) => Stream.unwrap(Effect.as(effect, Echo.handlers.Chat(requests)))) as typeof Echo.handlers.Chat
})

/** Handlers that never end. They report when they have read or sent a message, and when they have been interrupted. */
const withoutEnd = Effect.gen(function* () {
  const started = yield* Queue.unbounded<Kind>()
  const released = yield* Queue.unbounded<Kind>()
  const start = (kind: Kind) => Effect.andThen(Queue.offer(started, kind), Effect.void)
  const release = (kind: Kind) => Effect.asVoid(Queue.offer(released, kind))
  const answer = { text: "", items: [] }
  const handlers = {
    EchoOnce: (() =>
      start("unary").pipe(
        Effect.andThen(Effect.never),
        Effect.ensuring(release("unary"))
      )) as typeof Echo.handlers.EchoOnce,
    Expand: (() =>
      Stream.make(answer, answer, answer).pipe(
        Stream.concat(Stream.drain(Stream.fromEffect(start("serverStream")))),
        Stream.concat(Stream.never),
        Stream.ensuring(release("serverStream"))
      )) as typeof Echo.handlers.Expand,
    Collect: ((requests) =>
      Stream.runForEach(requests, () => start("clientStream")).pipe(
        Effect.as(answer),
        Effect.ensuring(release("clientStream"))
      )) as typeof Echo.handlers.Collect,
    Chat: ((requests) =>
      requests.pipe(
        Stream.tap(() => start("bidi")),
        Stream.map(() => answer),
        Stream.ensuring(release("bidi"))
      )) as typeof Echo.handlers.Chat
  }
  return { handlers, started, released }
})

describe("a call of each kind", () => {
  it.live.each(kinds)("%s returns its response", (kind) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* call(yield* Echo.client, kind), ["a b"])
    }).pipe(Effect.provide(Echo.serve()))
  )

  it.live("can have no messages", () =>
    Effect.gen(function* () {
      const { Chat, Collect, Expand } = yield* Echo.client
      assert.deepStrictEqual(yield* Stream.runCollect(Expand({})), [])
      assert.deepStrictEqual(yield* Collect(Stream.empty), { text: "", items: [] })
      assert.deepStrictEqual(yield* Stream.runCollect(Chat(Stream.empty)), [])
    }).pipe(Effect.provide(Echo.serve()))
  )

  it.live.each(kinds)("%s carries metadata each way, and its handler knows the method and the peer", (kind) => {
    const seen: Array<GrpcCall["Service"]> = []
    const tell = Effect.gen(function* () {
      const current = yield* GrpcCall
      seen.push(current)
      const headers = new Metadata()
      headers.set("x-headers", `${String(current.metadata.get("x-all"))} ${String(current.metadata.get("x-one"))}`)
      yield* current.sendMetadata(headers)
      const trailers = new Metadata()
      trailers.set("x-trailers-bin", Buffer.from([0, 1, 2]))
      yield* current.addTrailers(trailers)
    })
    return Effect.gen(function* () {
      const client = yield* Echo.client
      const all = new Metadata()
      all.set("x-all", "for all calls")
      const one = new Metadata()
      one.set("x-one", "for one")
      const [answer, { headers, trailers }] = yield* call(client, kind, { metadata: one }).pipe(
        GrpcClient.withResponseMetadata,
        Effect.provideService(GrpcClient.RequestMetadata, all)
      )
      assert.deepStrictEqual(answer, ["a b"])
      assert.deepStrictEqual(headers.get("x-headers"), ["for all calls for one"])
      assert.deepStrictEqual(trailers.get("x-trailers-bin"), [Buffer.from([0, 1, 2])])
      const methods = { unary: "EchoOnce", serverStream: "Expand", clientStream: "Collect", bidi: "Chat" }
      assert.strictEqual(seen.length, 1)
      assert.strictEqual(seen[0]?.service, Echo.EchoService.name)
      assert.strictEqual(seen[0]?.method, methods[kind])
      assert.strictEqual(seen[0]?.kind, kind)
      assert.strictEqual(seen[0]?.deadline, Infinity)
      assert.match(seen[0]?.peer.address ?? "", /^127\.0\.0\.1:\d+$/)
      assert.deepStrictEqual(seen[0]?.peer.names, [])
      assert.deepStrictEqual(all.getMap(), { "x-all": "for all calls" })
    }).pipe(Effect.provide(Echo.serve(before(tell))))
  })

  it.live.each(kinds)("%s that fails has the trailers of its handler and the details of its status", (kind) => {
    const refuse = Effect.gen(function* () {
      const trailers = new Metadata()
      trailers.set("x-trailers", "told")
      yield* (yield* GrpcCall).addTrailers(trailers)
      return yield* new Echo.Refused({ field: "text" })
    })
    return Effect.gen(function* () {
      const { reason } = yield* Effect.flip(call(yield* Echo.client, kind))
      assert.strictEqual(reason._tag, "InvalidArgument")
      assert.deepStrictEqual(
        reason.details.map(({ _tag }) => _tag),
        ["BadRequest"]
      )
      assert.deepStrictEqual(reason.metadata.get("x-trailers"), ["told"])
    }).pipe(Effect.provide(Echo.serve(before(refuse))))
  })

  it.live.each(kinds)("%s passes its deadline on to the calls of its handler", (kind) =>
    Effect.gen(function* () {
      // the deadlines that the second server receives
      const deadlines: Array<number> = []
      const tell = Effect.gen(function* () {
        const { deadline } = yield* GrpcCall
        assert.strictEqual(yield* Deadline, deadline)
        deadlines.push(deadline)
      })
      const { client: second } = yield* Echo.start(before(tell))
      const { client: first } = yield* Echo.start(before(Effect.orDie(call(second, kind))))
      const startedAt = performance.now()
      yield* call(first, kind, { timeout: "10 seconds" })
      yield* call(first, kind)
      yield* call(first, kind, { timeout: "5 seconds" }).pipe(
        // the earlier deadline applies
        Effect.provideService(Deadline, startedAt + 2_000)
      )
      const left = deadlines.map((deadline) => deadline - startedAt)
      assert.strictEqual(left.length, 3)
      assert.isAtLeast(left[0]!, 9_000)
      assert.isAtMost(left[0]!, 19_000)
      assert.strictEqual(left[1], Infinity)
      assert.isAtMost(left[2]!, 4_000)
    })
  )
})

describe("a handler that fails after some messages", () => {
  const answers = (count: number) => Stream.map(Stream.range(1, count), (number) => ({ text: "", number, items: [] }))

  it.live("reports a defect only to the log", () => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ message }) => {
      lines.push(String(message))
    })
    const Expand = (() => Stream.concat(answers(3), Stream.die(new Error("secret")))) as typeof Echo.handlers.Expand
    const unfit = (() =>
      Stream.concat(answers(3), Stream.make({ text: "", items: ["secret" as never] }))) as typeof Expand
    return Effect.gen(function* () {
      const client = yield* Echo.client
      for (const responses of [client.Expand({}), client.Chat(texts("a"))]) {
        const { reason } = yield* Effect.flip(Stream.runDrain(responses))
        assert.strictEqual(reason._tag, "Internal")
        assert.strictEqual(reason.message, "Internal error")
        assert.deepStrictEqual(
          reason.details.map(({ _tag }) => _tag),
          ["RequestInfo"]
        )
      }
      const bugs = lines.filter((line) => line.includes("Unexpected error in a gRPC handler"))
      assert.strictEqual(bugs.length, 2)
    }).pipe(
      Effect.provide(
        Echo.serve({ Expand, Chat: (requests) => Stream.flatMap(requests, () => unfit({} as never)) }).pipe(
          Layer.provideMerge(Logger.layer([logger]))
        )
      )
    )
  })
})

describe("a client that cancels or disconnects", () => {
  it.live.each(kinds)("interrupts the handler of its %s call", (kind) =>
    Effect.gen(function* () {
      const { handlers, released, started } = yield* withoutEnd
      const { client } = yield* Echo.start(handlers)
      const calling = yield* Effect.forkChild(callWithoutEnd(client, kind))
      assert.strictEqual(yield* Queue.take(started), kind)
      yield* Fiber.interrupt(calling)
      assert.strictEqual(yield* Queue.take(released), kind)
    })
  )

  it.live.each([0, 1, 2, 3])("interrupts a handler that has sent it three messages, of which it has read %i", (count) =>
    Effect.gen(function* () {
      const { handlers, released } = yield* withoutEnd
      const { client } = yield* Echo.start(handlers)
      const read = yield* Deferred.make<void>()
      const responses = client.Expand({}).pipe(
        Stream.rechunk(1),
        Stream.zipWithIndex,
        Stream.runForEach(([, index]) => (index === count ? Deferred.succeed(read, undefined) : Effect.void))
      )
      // a client that reads no further cancels the call
      if (count < 3) {
        const reading = yield* Effect.forkChild(responses)
        yield* Deferred.await(read)
        yield* Fiber.interrupt(reading)
      } else {
        assert.strictEqual((yield* Stream.runCollect(Stream.take(client.Expand({}), 3))).length, 3)
      }
      assert.strictEqual(yield* Queue.take(released), "serverStream")
    })
  )

  it.live.each(kinds)("before its %s call has reached the server does not affect later calls", (kind) =>
    Effect.gen(function* () {
      const client = yield* Echo.client
      for (let turn = 0; turn < 20; turn++) {
        const calling = yield* Effect.forkChild(callWithoutEnd(client, kind), { startImmediately: true })
        for (let yields = 0; yields < turn; yields++) yield* Effect.yieldNow
        yield* Fiber.interrupt(calling)
      }
      assert.deepStrictEqual(yield* call(client, kind), ["a b"])
    }).pipe(Effect.provide(Echo.serve()))
  )

  it.live.each(kinds)("interrupts the handler of its %s call at the deadline", (kind) =>
    Effect.gen(function* () {
      const { handlers, released, started } = yield* withoutEnd
      const { client } = yield* Echo.start(handlers)
      // connects first, so that the deadline starts at the same time on both sides
      const first = yield* Effect.forkChild(callWithoutEnd(client, kind))
      yield* Queue.take(started)
      yield* Fiber.interrupt(first)
      yield* Queue.take(released)

      const { reason } = yield* Effect.flip(callWithoutEnd(client, kind, { timeout: "100 millis" }))
      assert.strictEqual(reason._tag, "DeadlineExceeded")
      assert.strictEqual(yield* Queue.take(released), kind)
    })
  )
})

describe("a handler that does not read to the end", () => {
  const requestsWithoutEnd = (released: Deferred.Deferred<void>) =>
    Stream.unfold(0, (n) => Effect.succeed([{ text: String(n) }, n + 1] as const)).pipe(
      Stream.ensuring(Deferred.succeed(released, undefined))
    )

  it.live("responds to a client that still sends", () =>
    Effect.gen(function* () {
      const { Chat, Collect } = yield* Echo.client
      const collected = yield* Deferred.make<void>()
      assert.strictEqual((yield* Collect(requestsWithoutEnd(collected))).text, "0 1 2")
      yield* Deferred.await(collected)
      const chatted = yield* Deferred.make<void>()
      const answers = yield* Stream.runCollect(Chat(requestsWithoutEnd(chatted)))
      assert.deepStrictEqual(
        answers.map(({ text }) => text),
        ["0", "1", "2"]
      )
      yield* Deferred.await(chatted)
    }).pipe(
      Effect.provide(
        Echo.serve({
          Collect: (requests) => Echo.handlers.Collect(Stream.take(requests, 3)),
          Chat: (requests) => Echo.handlers.Chat(Stream.take(requests, 3))
        })
      )
    )
  )

  it.live("fails the call of a client that still sends", () =>
    Effect.gen(function* () {
      const { Chat, Collect } = yield* Echo.client
      const collected = yield* Deferred.make<void>()
      const error = yield* Effect.flip(Collect(requestsWithoutEnd(collected)))
      assert.strictEqual(error.reason._tag, "InvalidArgument")
      yield* Deferred.await(collected)
      const chatted = yield* Deferred.make<void>()
      const chatError = yield* Effect.flip(Stream.runDrain(Chat(requestsWithoutEnd(chatted))))
      assert.strictEqual(chatError.reason._tag, "InvalidArgument")
      yield* Deferred.await(chatted)
    }).pipe(
      Effect.provide(
        Echo.serve({
          Collect: (requests) =>
            Effect.andThen(Stream.runDrain(Stream.take(requests, 3)), new Echo.Refused({ field: "text" })),
          Chat: (requests) =>
            Stream.concat(
              Echo.handlers.Chat(Stream.take(requests, 3)),
              Stream.fail(new Echo.Refused({ field: "text" }))
            )
        })
      )
    )
  )
})

describe("a stream of requests", () => {
  it.live("that fails cancels the call, which fails with the same error", () =>
    Effect.gen(function* () {
      const { handlers, released, started } = yield* withoutEnd
      const {
        client: { Chat, Collect }
      } = yield* Echo.start(handlers)
      // after the handler has read a message
      const failing = Stream.concat(
        texts("a"),
        Stream.drain(Stream.fromEffect(Effect.andThen(Queue.take(started), Effect.fail("mine" as const))))
      )
      assert.strictEqual(yield* Effect.flip(Collect(failing)), "mine")
      assert.strictEqual(yield* Queue.take(released), "clientStream")
      assert.strictEqual(yield* Effect.flip(Stream.runDrain(Chat(failing))), "mine")
      assert.strictEqual(yield* Queue.take(released), "bidi")
    })
  )

  it.live("with a message that cannot be encoded fails the call", () =>
    Effect.gen(function* () {
      const { Chat, Collect } = yield* Echo.client
      const unfit = Stream.make({ text: 1 as never })
      for (const failing of [Collect(unfit), Stream.runDrain(Chat(unfit))]) {
        const error = yield* Effect.flip(failing)
        assert.strictEqual(error.reason._tag, "InvalidArgument")
        assert.match(error.reason.message, /^text: expected a string/)
      }
    }).pipe(Effect.provide(Echo.serve()))
  )

  it.live("that dies makes only its own call die", () =>
    Effect.gen(function* () {
      const client = yield* Echo.client
      const exit = yield* Effect.exit(client.Collect(Stream.concat(texts("a"), Stream.die("dead"))))
      assert.isTrue(Exit.hasDies(exit))
      assert.isTrue(Exit.hasDies(yield* Effect.exit(Stream.runDrain(client.Chat(Stream.die("dead"))))))
      assert.deepStrictEqual(yield* call(client, "bidi"), ["a b"])
    }).pipe(Effect.provide(Echo.serve()))
  )
})

describe("a closing server", () => {
  it.live.each(streams)("ends an endless %s call with UNAVAILABLE at the drain timeout", (kind) =>
    Effect.gen(function* () {
      const { handlers, released, started } = yield* withoutEnd
      const scope = yield* Scope.make()
      const server = Echo.serve(handlers, { drain: Drain.layerTest(Duration.millis(50)) })
      const client = yield* Effect.provideContext(Echo.client, yield* Layer.buildWithScope(server, scope))
      const calling = yield* Effect.forkChild(Effect.result(callWithoutEnd(client, kind)))
      yield* Queue.take(started)
      yield* Scope.close(scope, Exit.void)
      const result = yield* Fiber.join(calling)
      assert.strictEqual(Result.isFailure(result) && result.failure.reason._tag, "Unavailable")
      assert.strictEqual(Result.isFailure(result) && result.failure.reason.message, "The server is shutting down")
      assert.strictEqual(yield* Queue.take(released), kind)
    })
  )
})
