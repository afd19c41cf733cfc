/**
 * Clients that begin a call and do not go on. They keep nobody else from being answered for long.
 */
import { assert, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Schedule, Stream } from "effect"

import * as GrpcServer from "../../src/layers/GrpcServer.ts"
import * as RawCall from "../integration/RawCall.ts"
import * as Echo from "./Echo.ts"

/** One call at a time, and the next one is refused. */
const limits = { maxConcurrency: 1, maxQueue: 0 }

const pathOf = (method: string) => `/${Echo.EchoService.name}/${method}`

const port = Effect.flatMap(GrpcServer.GrpcServer, ({ address }) => Effect.map(address, ({ port }) => port))

/** Calls until there is a place, which is not at once but after about a second. */
const callWhenThereIsAPlace = Effect.gen(function* () {
  const { EchoOnce: call } = yield* Echo.client
  assert.strictEqual((yield* Effect.flip(call({}))).reason._tag, "ResourceExhausted")
  const [waited, { text }] = yield* call({ text: "hello" }).pipe(
    Effect.retry(Schedule.spaced("20 millis")),
    Effect.timeout("20 seconds"),
    Effect.timed
  )
  assert.strictEqual(text, "hello")
  assert.isAbove(Duration.toMillis(waited), 500)
})

/** What becomes of a call that has had its place for too long. */
const evicted = /NGHTTP2_ENHANCE_YOUR_CALM/

it.live.each(["does not come", "is not said to be all"])(
  "a request that %s keeps a place for a second and no more",
  (what) =>
    Effect.gen(function* () {
      const held = yield* RawCall.hold(yield* port, pathOf("Echo"))
      if (what === "is not said to be all") yield* held.send
      yield* callWhenThereIsAPlace
      assert.match(yield* held.status, evicted)
    }).pipe(Effect.scoped, Effect.provide(Echo.serve({}, { limits })))
)

it.live("an answer that is not taken keeps a place for a second and no more", () =>
  Effect.gen(function* () {
    const answered = yield* Deferred.make<void>()
    const handler: typeof Echo.echo = (request) => Effect.tap(Echo.echo(request), Deferred.succeed(answered, undefined))
    yield* Effect.gen(function* () {
      // no byte of a message may be sent
      const held = yield* RawCall.hold(yield* port, pathOf("Echo"), {}, { initialWindowSize: 0 })
      yield* held.send
      yield* held.end
      yield* Deferred.await(answered)
      yield* callWhenThereIsAPlace
      assert.match(yield* held.status, evicted)
    }).pipe(Effect.scoped, Effect.provide(Echo.serve({ Echo: handler }, { limits })))
  })
)

it.live("messages that are not taken end at the deadline", () =>
  Effect.gen(function* () {
    const interrupted = yield* Deferred.make<void>()
    const endless = {
      Expand: () =>
        Stream.ensuring(
          Stream.forever(Stream.succeed({ text: "and on", number: 1, items: [] })),
          Deferred.succeed(interrupted, undefined)
        )
    }
    yield* Effect.gen(function* () {
      const held = yield* RawCall.hold(
        yield* port,
        pathOf("Expand"),
        { "grpc-timeout": "200m" },
        { initialWindowSize: 0 }
      )
      yield* held.send
      yield* held.end
      yield* Effect.timeout(Deferred.await(interrupted), "20 seconds")
    }).pipe(Effect.scoped, Effect.provide(Echo.serve(endless)))
  })
)
