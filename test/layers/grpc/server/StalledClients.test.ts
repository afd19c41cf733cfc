/**
 * Clients that start a call and then stall do not take slots from other clients.
 */
import { gzipSync } from "node:zlib"

import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Schedule, Stream } from "effect"

import * as RawCall from "../../../integration/RawCall.ts"
import * as Echo from "../Echo.ts"
import * as Http2Backend from "../Http2Backend.ts"

/** One call runs at a time, and a second one is shed. */
const limits = { maxConcurrency: 1, maxQueue: 0 }

const pathOf = (method: string) => `/${Echo.EchoService.name}/${method}`

/** Calls once, without a retry. */
const call = ({ EchoOnce }: Effect.Success<typeof Echo.client>) =>
  Effect.map(EchoOnce({ text: "hello" }), ({ text }) => assert.strictEqual(text, "hello"))

/** The error of a call that was evicted. */
const evicted = /NGHTTP2_ENHANCE_YOUR_CALM/

it.live.each(["does not arrive", "is not half-closed"])("a request that %s takes no slot", (what) =>
  Effect.gen(function* () {
    const { client, port } = yield* Echo.start({}, { limits })
    for (let count = 0; count < 3; count++) {
      const held = yield* RawCall.hold(port, pathOf("Echo"))
      if (what === "is not half-closed") yield* held.send
    }
    yield* call(client)
  })
)

it.live("a response that is not read takes no slot", () =>
  Effect.gen(function* () {
    const answered = yield* Deferred.make<void>()
    const handler: typeof Echo.echo = (request) => Effect.tap(Echo.echo(request), Deferred.succeed(answered, undefined))
    const { client, port } = yield* Echo.start({ Echo: handler }, { limits })
    // a flow-control window of 0 blocks all messages
    const held = yield* RawCall.hold(port, pathOf("Echo"), {}, { initialWindowSize: 0 })
    yield* held.send
    yield* held.end
    yield* Deferred.await(answered)
    yield* call(client)
  })
)

it.live.each(["Expand", "Chat", "Collect"])("a finished response of %s that is not read takes no slot", (method) =>
  Effect.gen(function* () {
    const answered = yield* Deferred.make<void>()
    const done = Deferred.succeed(answered, undefined)
    const one = { text: "one", number: 1, items: [] }
    const handlers = {
      Expand: () => Stream.ensuring(Stream.succeed(one), done),
      Chat: (requests: Stream.Stream<unknown>) =>
        Stream.ensuring(
          Stream.map(requests, () => one),
          done
        ),
      Collect: (requests: Stream.Stream<unknown>) => Effect.ensuring(Effect.as(Stream.runDrain(requests), one), done)
    }
    const { client, load, port } = yield* Echo.start(handlers, { limits })
    const held = yield* RawCall.hold(port, pathOf(method), {}, { initialWindowSize: 0 })
    yield* held.send
    yield* held.end
    yield* Deferred.await(answered)
    yield* Effect.retry(call(client), { schedule: Schedule.spaced("5 millis"), times: 100 })
    assert.deepInclude(yield* load, { answering: 0, waiting: 0 })
  })
)

it.live("a stream of responses that is not read keeps its slot for a second at most", () =>
  Effect.gen(function* () {
    const endless = { Expand: () => Stream.forever(Stream.succeed({ text: "on", number: 1, items: [] })) }
    const { client, load, port } = yield* Echo.start(endless, { limits })
    const held = yield* RawCall.hold(port, pathOf("Expand"), {}, { initialWindowSize: 0 })
    yield* held.send
    yield* held.end
    yield* Effect.repeat(load, { until: ({ answering }) => answering === 1, schedule: Schedule.spaced("5 millis") })
    yield* Effect.retry(call(client), { schedule: Schedule.spaced("20 millis"), times: 500 })
    assert.match(yield* held.status, evicted)
  })
)

it.live("above maxBytesInFlight, incomplete requests of a client evict each other, and no calls of other clients", () =>
  Effect.gen(function* () {
    const { client, port } = yield* Echo.start({}, { limits: { maxBytesInFlight: 70 * 1024 } })
    const held = yield* Effect.replicateEffect(RawCall.hold(port, pathOf("Echo")), 4)
    yield* call(client)
    assert.match(yield* held[0]!.status, evicted)
    yield* held[3]!.send
    yield* held[3]!.end
    assert.strictEqual(yield* held[3]!.status, "0")
  })
)

it.live("a stream of requests whose decompressed messages exceed maxBytesInFlight is evicted", () =>
  Effect.gen(function* () {
    const { client, load, port } = yield* Echo.start({}, { limits: { maxBytesInFlight: 4 * 1024 * 1024 } })
    const message = Http2Backend.frame(gzipSync(Buffer.alloc(200_000)), true)
    const status = yield* RawCall.send(`127.0.0.1:${port}`, {
      path: pathOf("Chat"),
      headers: { "grpc-encoding": "gzip" },
      body: Buffer.concat(Array.from({ length: 200 }, () => message))
    })
    assert.isUndefined(status)
    yield* call(client)
    assert.deepInclude(yield* load, { answering: 0, waiting: 0 })
  })
)

it.live("a stream of responses that is not read ends at the deadline", () =>
  Effect.gen(function* () {
    const interrupted = yield* Deferred.make<void>()
    const endless = {
      Expand: () =>
        Stream.ensuring(
          Stream.forever(Stream.succeed({ text: "and on", number: 1, items: [] })),
          Deferred.succeed(interrupted, undefined)
        )
    }
    const { port } = yield* Echo.start(endless)
    const held = yield* RawCall.hold(port, pathOf("Expand"), { "grpc-timeout": "200m" }, { initialWindowSize: 0 })
    yield* held.send
    yield* held.end
    yield* Effect.timeout(Deferred.await(interrupted), "20 seconds")
  })
)
