import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Logger, Queue, Result, Scope, Stream } from "effect"

import type { HealthCheckResponse__Output } from "../../../../src/layers/grpc/generated/health/grpc/health/v1/HealthCheckResponse.ts"
import { Health as HealthService } from "../../../../src/layers/grpc/generated/health/services.ts"
import * as GrpcServer from "../../../../src/layers/grpc/GrpcServer.ts"
import { Health } from "../../../../src/layers/grpc/services/Health.ts"
import * as Status from "../../../../src/layers/grpc/Status.ts"
import { Drain } from "../../../../src/layers/process/Drain.ts"
import * as Echo from "../Echo.ts"

const echo = Echo.EchoService.name
const health = HealthService.name

const serving = { status: 1 } as const
const notServing = { status: 2 } as const
const serviceUnknown = { status: 3 } as const

/** A client of the health of the server that is there. */
const client = Echo.clientOf(HealthService)

type Client = Effect.Success<typeof client>

/** Watches; what comes is in the queue, and how it ended is what the fiber ends with. */
const watch = Effect.fnUntraced(function* ({ Watch }: Client, service: string) {
  const statuses = yield* Queue.unbounded<HealthCheckResponse__Output>()
  const fiber = yield* Effect.forkScoped(
    Effect.result(Stream.runForEach(Watch({ service }), (status) => Queue.offer(statuses, status)))
  )
  return { next: Queue.take(statuses), ended: Fiber.join(fiber), left: Queue.size(statuses) }
})

/** A server whose health the test can set, and that can be told to leave. */
const make = Effect.gen(function* () {
  const own = yield* Deferred.make<Health["Service"]>()
  const draining = yield* Deferred.make<void>()
  const lines: Array<string> = []
  const logger = Logger.layer([Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))])
  const drain = Layer.succeed(Drain, {
    isStarted: Effect.succeed(true),
    isDraining: Deferred.isDone(draining),
    awaitDraining: Deferred.await(draining),
    timeLeft: Effect.succeed(Duration.seconds(20))
  })
  const beside = Layer.effectDiscard(Effect.flatMap(Health, (service) => Deferred.succeed(own, service))).pipe(
    Layer.provideMerge(Health.layer)
  )
  const scope = yield* Scope.make()
  const server = Echo.serve({}, { drain, beside })
  const services = yield* Layer.buildWithScope(server.pipe(Layer.provideMerge(logger)), scope)
  return {
    services,
    lines,
    client: yield* Effect.provideContext(client, services),
    set: (yield* Deferred.await(own)).set,
    drain: Deferred.succeed(draining, undefined),
    close: Scope.close(scope, Exit.void)
  }
})

describe("health", () => {
  it.live("is that of the server and of each of its services", () =>
    Effect.gen(function* () {
      const { Check, List } = yield* client
      for (const service of ["", echo, health]) assert.deepStrictEqual(yield* Check({ service }), serving)
      const { reason } = yield* Effect.flip(Check({ service: "no.Service" }))
      assert.strictEqual(reason._tag, "NotFound")
      assert.deepStrictEqual(yield* List({}), { statuses: { "": serving, [echo]: serving, [health]: serving } })
    }).pipe(Effect.provide(Echo.serve({}, { beside: Health.layer })))
  )

  it.live("knows a service that comes after it, or long after", () => {
    const register = (name: string) =>
      Effect.flatMap(GrpcServer.GrpcServer, ({ register }) =>
        register<never, never>({ name, definition: {}, handlers: {}, toStatus: () => Status.internal("") })
      )
    const After = Layer.effectDiscard(Effect.andThen(Health, register("a.After")))
    return Effect.gen(function* () {
      const health = yield* client
      assert.deepStrictEqual(yield* health.Check({ service: "a.After" }), serving)
      const { next } = yield* watch(health, "a.LongAfter")
      assert.deepStrictEqual(yield* next, serviceUnknown)
      yield* register("a.LongAfter")
      assert.deepStrictEqual(yield* next, serving)
      assert.deepStrictEqual(yield* health.Check({ service: "a.LongAfter" }), serving)
    }).pipe(Effect.provide(Echo.serve({}, { beside: After.pipe(Layer.provideMerge(Health.layer)) })))
  })

  it.live("of a service is what the application says, and each change is told once", () =>
    Effect.gen(function* () {
      const { client, set } = yield* make
      const { left, next } = yield* watch(client, echo)
      const overall = yield* watch(client, "")
      const own = yield* watch(client, "own")
      assert.deepStrictEqual(yield* next, serving)
      assert.deepStrictEqual(yield* overall.next, serving)
      assert.deepStrictEqual(yield* own.next, serviceUnknown)

      yield* set(echo, "NOT_SERVING")
      assert.deepStrictEqual(yield* next, notServing)
      assert.deepStrictEqual(yield* client.Check({ service: echo }), notServing)
      assert.deepStrictEqual(yield* client.Check({ service: "" }), serving)

      yield* set(echo, "NOT_SERVING")
      yield* set("own", "NOT_SERVING")
      // as the second change of Echo was before this, it is told by now if at all
      assert.deepStrictEqual(yield* own.next, notServing)
      assert.strictEqual(yield* left, 0)

      yield* set(echo, "SERVING")
      assert.deepStrictEqual(yield* next, serving)
      yield* set("", "NOT_SERVING")
      assert.deepStrictEqual(yield* overall.next, notServing)
      assert.strictEqual(yield* left, 0)
      assert.deepStrictEqual(yield* client.List({}), {
        statuses: { "": notServing, [echo]: serving, [health]: serving, own: notServing }
      })
    })
  )

  it.live("of a server that leaves is told to all, and ends", () =>
    Effect.gen(function* () {
      const { client, close, drain, lines, services, set } = yield* make
      yield* set(echo, "NOT_SERVING")
      const watchers = yield* Effect.forEach(["", echo, "no.Service"], (service) => watch(client, service))
      const [overall, down, unknown] = watchers
      assert.deepStrictEqual(yield* overall!.next, serving)
      assert.deepStrictEqual(yield* down!.next, notServing)
      assert.deepStrictEqual(yield* unknown!.next, serviceUnknown)

      yield* drain
      assert.deepStrictEqual(yield* overall!.next, notServing)
      for (const { ended, left } of watchers) {
        assert.deepStrictEqual(yield* ended, Result.succeed(undefined))
        assert.strictEqual(yield* left, 0)
      }

      // calls are answered for as long as the server is there
      yield* set(echo, "SERVING")
      for (const service of ["", echo]) assert.deepStrictEqual(yield* client.Check({ service }), notServing)
      const late = yield* watch(client, "")
      const result = yield* late.ended
      assert.strictEqual(Result.isFailure(result) && result.failure.reason._tag, "Unavailable")
      assert.strictEqual(yield* late.left, 0)
      const { Echo: call } = yield* Effect.provideContext(Echo.client, services)
      assert.strictEqual((yield* call({ text: "still there" })).text, "still there")

      yield* close
      assert.include(lines, "gRPC server closed: 0 calls in flight finished, 0 aborted")
    })
  )

  it.live("of a server that closes ends the calls of a hundred watchers at once", () =>
    Effect.gen(function* () {
      const { client, close, lines, set } = yield* make
      const watchers = yield* Effect.forEach(Array.from({ length: 100 }), () => watch(client, echo))
      const nextOfAll = Effect.forEach(watchers, ({ next }) => next)
      const all = (status: { readonly status: number }) => watchers.map(() => status)
      assert.deepStrictEqual(yield* nextOfAll, all(serving))
      yield* set(echo, "NOT_SERVING")
      assert.deepStrictEqual(yield* nextOfAll, all(notServing))
      yield* set(echo, "SERVING")
      assert.deepStrictEqual(yield* nextOfAll, all(serving))
      yield* close
      assert.deepStrictEqual(yield* nextOfAll, all(notServing))
      for (const { ended } of watchers) assert.deepStrictEqual(yield* ended, Result.succeed(undefined))
      assert.include(lines, "gRPC server closed: 100 calls in flight finished, 0 aborted")
    })
  )

  it.live("is answered by a server that has too much to do", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const handler = () => Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
      const limits = { maxConcurrency: 1, maxQueue: 0 }
      const services = yield* Layer.build(Echo.serve({ EchoOnce: handler }, { limits, beside: Health.layer }))
      const { EchoOnce: call } = yield* Effect.provideContext(Echo.client, services)
      yield* Effect.forkScoped(call({}))
      yield* Deferred.await(started)
      assert.strictEqual((yield* Effect.flip(call({}))).reason._tag, "ResourceExhausted")

      const health = yield* Effect.provideContext(client, services)
      assert.deepStrictEqual(yield* health.Check({ service: echo }), serving)
      assert.deepStrictEqual(yield* (yield* watch(health, "")).next, serving)
      const { load } = Context.get(services, GrpcServer.GrpcServer)
      assert.deepStrictEqual(yield* load, { answering: 1, waiting: 0, refused: 1 })
    })
  )
})
