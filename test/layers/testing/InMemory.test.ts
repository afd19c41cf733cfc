import { assert, describe, it } from "@effect/vitest"
import { Metadata } from "@grpc/grpc-js"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Queue, Scope, Stream } from "effect"

import { RequestInfo } from "../../../src/layers/grpc/ErrorDetail.ts"
import { Health as HealthService } from "../../../src/layers/grpc/generated/health/services.ts"
import type { Kind } from "../../../src/layers/grpc/GrpcCall.ts"
import { GrpcCall } from "../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import type { ClientAttemptInterceptor, ClientInterceptor } from "../../../src/layers/grpc/GrpcInterceptor.ts"
import * as GrpcInterceptor from "../../../src/layers/grpc/GrpcInterceptor.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import { Health } from "../../../src/layers/grpc/services/Health.ts"
import * as Status from "../../../src/layers/grpc/Status.ts"
import * as EchoServer from "../../../src/layers/testing/EchoServer.ts"
import { EchoService, GreeterService } from "../../../src/layers/testing/generated/services.ts"
import * as InMemory from "../../../src/layers/testing/InMemory.ts"
import * as PeerIdentity from "../../../src/layers/tls/PeerIdentity.ts"
import * as Outcomes from "../grpc/Outcomes.ts"

/** Calls the method of a kind, and returns the texts of its responses. */
const call = Effect.fnUntraced(function* (kind: Kind, text: string, options?: GrpcClient.CallOptions) {
  const client = yield* GrpcClient.make(EchoService)
  const texts = <E>(responses: Stream.Stream<{ readonly text: string }, E>) =>
    Effect.map(Stream.runCollect(responses), (all) => all.map(({ text }) => text))
  switch (kind) {
    case "unary":
      return [(yield* client.Echo({ text }, options)).text]
    case "serverStream":
      return yield* texts(client.Expand({ text, numbers: [1, 2] }, options))
    case "clientStream":
      return [(yield* client.Collect(Stream.make({ text }, { text }), options)).text]
    case "bidi":
      return yield* texts(client.Chat(Stream.make({ text }, { text }), options))
  }
})

const responsesOf: { readonly [K in Kind]: ReadonlyArray<string> } = {
  unary: ["hello"],
  serverStream: ["hello", "hello"],
  clientStream: ["hello hello"],
  bidi: ["hello", "hello"]
}

/** A server that does not answer the text "hang". `started` waits for such a call, and `status` for the end of a call. */
const hanging = Effect.gen(function* () {
  const started = yield* Deferred.make<void>()
  const statuses = yield* Queue.unbounded<string>()
  const hang = Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
  const onEnd: GrpcInterceptor.ServerInterceptor["onEnd"] = (_call, _exit, status) =>
    void Queue.offerUnsafe(statuses, status?._tag ?? "OK")
  const context = yield* Layer.build(EchoServer.serve({ hang }).pipe(InMemory.listen({ observers: [{ onEnd }] })))
  return { context, started: Deferred.await(started), status: Queue.take(statuses) }
})

describe("a call in memory", () => {
  it.effect.each(Outcomes.kinds)("of kind %s is answered", (kind) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* call(kind, "hello"), responsesOf[kind])
    }).pipe(Effect.provide(EchoServer.serve().pipe(InMemory.listen())))
  )

  it.effect.each(Outcomes.kinds)("of kind %s fails with the status of the handler's error", (kind) =>
    Effect.gen(function* () {
      const { method, reason } = yield* Effect.flip(call(kind, "missing"))
      assert.match(method, /^onlinebooks\.layers\.testing\.EchoService\//)
      assert.deepStrictEqual(
        [reason._tag, reason.message, reason.details],
        [
          "InvalidArgument",
          "text: unknown",
          Status.invalidArgument([{ field: "text", description: "unknown" }]).details
        ]
      )
    }).pipe(
      Effect.provide(
        EchoServer.serve({
          missing: Effect.fail(Status.invalidArgument([{ field: "text", description: "unknown" }]))
        }).pipe(InMemory.listen())
      )
    )
  )

  it.effect.each(Outcomes.kinds)("of kind %s fails with INTERNAL and an id for a defect", (kind) =>
    Effect.gen(function* () {
      const { reason } = yield* Effect.flip(call(kind, "die"))
      assert.deepStrictEqual([reason._tag, reason.message], ["Internal", "Internal error"])
      const [detail] = reason.details
      assert(detail?._tag === "RequestInfo")
      assert.deepStrictEqual(reason.details, [RequestInfo({ requestId: detail.requestId })])
    }).pipe(
      Effect.provide(
        EchoServer.serve({ die: Effect.die(new Error("secret")) }).pipe(InMemory.listen({ observers: [] }))
      )
    )
  )

  it.effect.each(Outcomes.kinds)("of kind %s interrupts its handler when it is cancelled", (kind) =>
    Effect.gen(function* () {
      const { context, started, status } = yield* hanging
      const fiber = yield* Effect.forkChild(Effect.provideContext(call(kind, "hang"), context))
      yield* started
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* status, "Cancelled")
    })
  )

  it.live.each(Outcomes.kinds)("of kind %s ends at its deadline on both sides", (kind) =>
    Effect.gen(function* () {
      const { context, status } = yield* hanging
      const { reason } = yield* Effect.flip(call(kind, "hang", { timeout: "20 millis" })).pipe(
        Effect.provideContext(context)
      )
      assert.strictEqual(reason._tag, "DeadlineExceeded")
      assert.strictEqual(yield* status, "DeadlineExceeded")
    })
  )

  it.effect.each(Outcomes.kinds)("of kind %s carries metadata both ways", (kind) =>
    Effect.gen(function* () {
      const metadata = new Metadata()
      metadata.set("accept-language", "de")
      const [, { headers, trailers }] = yield* GrpcClient.withResponseMetadata(call(kind, "hello", { metadata }))
      assert.deepStrictEqual([headers.get("language"), trailers.get("cost")], [["de"], ["1"]])
      // a copy: what the handler adds stays on its side
      assert.deepStrictEqual(metadata.get("seen"), [])
    }).pipe(
      Effect.provide(
        EchoServer.serve({
          hello: Effect.gen(function* () {
            const { addTrailers, metadata, sendMetadata } = yield* GrpcCall
            const headers = new Metadata()
            headers.set("language", metadata.get("accept-language")[0] ?? "none")
            yield* sendMetadata(headers)
            metadata.set("seen", "yes")
            const trailers = new Metadata()
            trailers.set("cost", "1")
            if (metadata.get("counted").length > 0) return
            metadata.set("counted", "yes")
            yield* addTrailers(trailers)
          })
        }).pipe(InMemory.listen())
      )
    )
  )

  it.effect.each(Outcomes.kinds)("of kind %s passes the interceptors of both sides", (kind) => {
    const notes: Array<string> = []
    const noting = (
      name: string
    ): ClientInterceptor & ClientAttemptInterceptor & GrpcInterceptor.ServerInterceptor => ({
      onStart: () => void notes.push(`${name} starts`),
      onEnd: (_call: unknown, _exit: unknown, status: Status.Status | undefined) =>
        void notes.push(`${name} ends ${status?._tag ?? "OK"}`)
    })
    return Effect.gen(function* () {
      yield* call(kind, "hello")
      assert.deepStrictEqual(notes.toSorted(), [
        "attempt ends OK",
        "attempt starts",
        "call ends OK",
        "call starts",
        "server ends OK",
        "server starts"
      ])
      assert.deepStrictEqual(notes.slice(0, 3), ["call starts", "attempt starts", "server starts"])
    }).pipe(
      Effect.provide(
        EchoServer.serve().pipe(
          InMemory.listen({
            interceptors: [noting("server")],
            client: { interceptors: [noting("call")], attemptInterceptors: [noting("attempt")] }
          })
        )
      )
    )
  })

  it.effect("sends nothing that its message cannot carry", () =>
    Effect.gen(function* () {
      const client = yield* GrpcClient.make(EchoService)
      const { reason } = yield* Effect.flip(client.Echo({ int32Value: 2.5 }))
      assert.strictEqual(reason._tag, "InvalidArgument")
      const chat = client.Chat(Stream.make({ text: "fine" }, { int32Value: 2.5 }))
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(chat))).reason._tag, "InvalidArgument")
    }).pipe(Effect.provide(EchoServer.serve().pipe(InMemory.listen())))
  )

  it.effect("has limits of the sizes of messages", () =>
    Effect.gen(function* () {
      const tooLong = yield* Effect.flip(call("unary", "x".repeat(101)))
      assert.deepStrictEqual(
        [tooLong.reason._tag, tooLong.reason.message],
        ["ResourceExhausted", "Received message larger than max (103 vs 100)"]
      )
      assert.strictEqual((yield* Effect.flip(call("bidi", "x".repeat(101)))).reason._tag, "ResourceExhausted")
      const tooLarge = yield* Effect.flip(call("serverStream", "x".repeat(60)))
      assert.match(tooLarge.reason.message, /^Response of \d+ bytes exceeds the limit of 50$/)
    }).pipe(
      Effect.provide(EchoServer.serve().pipe(InMemory.listen({ limits: { maxRequestSize: 100, maxResponseSize: 50 } })))
    )
  )

  it.effect("of a service that the server does not have is UNIMPLEMENTED, and seen by observers", () => {
    const seen: Array<string> = []
    return Effect.gen(function* () {
      const greeter = yield* GrpcClient.make(GreeterService)
      const { reason } = yield* Effect.flip(greeter.Greet({}))
      assert.deepStrictEqual(
        [reason._tag, reason.message],
        ["Unimplemented", `The server does not implement the method /${GreeterService.name}/Greet`]
      )
      assert.deepStrictEqual(seen, ["_OTHER Unimplemented rejected"])
    }).pipe(
      Effect.provide(
        EchoServer.serve().pipe(
          InMemory.listen({
            observers: [
              {
                onEnd: (call, _exit, status) =>
                  void seen.push(`${call.method} ${status?._tag}${call.isRejected ? " rejected" : ""}`)
              }
            ]
          })
        )
      )
    )
  })

  it.effect("is cut with UNAVAILABLE when the server closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { context, started } = yield* Scope.provide(hanging, scope)
      const fiber = yield* Effect.forkChild(Effect.flip(Effect.provideContext(call("unary", "hang"), context)))
      yield* started
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "Unavailable")
    })
  )
})

describe("a stream in memory", () => {
  it.effect("is made at the pace of its reader", () =>
    Effect.gen(function* () {
      let made = 0
      const services = GrpcServer.serve(
        GreeterService,
        Effect.succeed({
          Greet: GrpcServer.unimplemented,
          GreetInAll: () =>
            Stream.range(1, 1000).pipe(
              Stream.rechunk(1),
              Stream.map((number) => {
                made++
                return { text: String(number) }
              })
            )
        }),
        {}
      )
      const context = yield* Layer.build(services.pipe(InMemory.listen()))
      const greeter = yield* Effect.provideContext(GrpcClient.make(GreeterService), context)
      const read = yield* Stream.runCollect(Stream.take(greeter.GreetInAll({}), 3))
      assert.deepStrictEqual(
        read.map(({ text }) => text),
        ["1", "2", "3"]
      )
      // 16 at each end, and the one that waits
      assert.isBelow(made, 100)
      assert.strictEqual(yield* Stream.runCount(greeter.GreetInAll({})), 1000)
    })
  )

  it.effect("of requests is read at the pace of its handler", () =>
    Effect.gen(function* () {
      let sent = 0
      const requests = Stream.range(1, 1000).pipe(
        Stream.rechunk(1),
        Stream.map((number) => {
          sent++
          return { text: String(number) }
        })
      )
      const client = yield* GrpcClient.make(EchoService)
      const first = yield* Stream.runCollect(Stream.take(client.Chat(requests), 1))
      assert.strictEqual(first[0]?.text, "1")
      assert.isBelow(sent, 200)
      assert.strictEqual((yield* client.Collect(requests)).text.split(" ").length, 1000)
    }).pipe(Effect.provide(EchoServer.serve().pipe(InMemory.listen())))
  )
})

class CurrentUser extends Context.Service<CurrentUser, { readonly name: string }>()("test/InMemory/CurrentUser") {}

it.effect("the peer may have a certificate, for tests of authentication", () =>
  Effect.gen(function* () {
    const greeter = yield* GrpcClient.make(GreeterService)
    assert.strictEqual((yield* greeter.Greet({})).text, "Hello, DNS:shop")
  }).pipe(
    Effect.provide(
      GrpcServer.serve(
        GreeterService,
        Effect.succeed({
          Greet: () => Effect.map(CurrentUser, ({ name }) => ({ text: `Hello, ${name}` })),
          GreetInAll: GrpcServer.unimplemented
        }),
        {}
      ).pipe(
        InMemory.listen({
          peer: { address: "in-memory", names: [{ type: "DNS", value: "shop" }] },
          interceptors: [
            GrpcInterceptor.provide(CurrentUser, ({ peer }) =>
              Effect.succeed({ name: PeerIdentity.format(peer.names) })
            )
          ]
        })
      )
    )
  )
)

it.effect("health is served in memory, too", () =>
  Effect.gen(function* () {
    const health = yield* GrpcClient.make(HealthService)
    assert.strictEqual((yield* health.Check({ service: EchoService.name })).status, 1)
    const { set } = yield* Health
    yield* set(EchoService.name, "NOT_SERVING")
    const [status] = yield* Stream.runCollect(Stream.take(health.Watch({ service: EchoService.name }), 1))
    assert.strictEqual(status?.status, 2)
  }).pipe(Effect.provide(Layer.merge(EchoServer.serve(), Health.layer).pipe(Layer.provideMerge(InMemory.layer()))))
)
