/**
 * Retries, circuit breaker, suspension of servers, and reconnection, with real servers and clients in this process.
 */
import { assert, describe, it } from "@effect/vitest"
import { Metadata } from "@grpc/grpc-js"
import { Duration, Effect, Exit, Fiber, Layer, Option, Schedule, Scope, Stream } from "effect"

import {
  type ChannelOptions,
  type ChannelPolicy,
  defaultPolicy
} from "../../../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import { GrpcCall } from "../../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import * as RetryPolicy from "../../../../src/layers/grpc/RetryPolicy.ts"
import * as TcpPort from "../../../integration/TcpPort.ts"
import * as Echo from "../Echo.ts"

/** Serves Echo until the scope closes, and returns the port. */
const serve = (...options: Parameters<typeof Echo.start>) => Effect.map(Echo.start(...options), ({ port }) => port)

/** A client of servers on 127.0.0.1. */
const connect = Effect.fnUntraced(function* (
  ports: ReadonlyArray<number>,
  policy: Partial<ChannelPolicy> = {},
  options: Partial<ChannelOptions> = {}
) {
  const target = `ipv4:${ports.map((port) => `127.0.0.1:${port}`).join(",")}`
  const context = yield* Layer.build(
    NodeGrpcChannel.layer({ ...options, target, policy: { retry: patient, ...policy } })
  )
  return yield* Effect.provideContext(GrpcClient.make(Echo.EchoService), context)
})

const patient: RetryPolicy.RetryPolicy = { ...RetryPolicy.defaults, attemptTimeout: Duration.seconds(10) }

/** A handler that counts its calls. */
const counted = (answer: () => ReturnType<typeof Echo.echo>) => {
  const count = { calls: 0 }
  const handler = () =>
    Effect.suspend(() => {
      count.calls++
      return answer()
    })
  return { count, handler }
}

const slow = Effect.delay(Effect.succeed({ text: "slow", items: [] }), "250 millis")

const unavailable = (metadata = new Metadata()) => new Echo.Unavailable({ metadata })

describe("an idempotent method", () => {
  it.live("is retried on UNAVAILABLE, and grpc-previous-rpc-attempts counts the attempts", () =>
    Effect.gen(function* () {
      const attempts: Array<unknown> = []
      const port = yield* serve({
        Echo: ({ text }) =>
          Effect.gen(function* () {
            const { metadata } = yield* GrpcCall
            attempts.push(metadata.get("grpc-previous-rpc-attempts"))
            if (attempts.length < 3) return yield* unavailable()
            return { text, items: [] }
          })
      })
      const client = yield* connect([port])
      assert.strictEqual((yield* client.Echo({ text: "again" }, { timeout: "10 seconds" })).text, "again")
      assert.deepStrictEqual(attempts, [[], ["1"], ["2"]])
    })
  )

  it.live("is attempted up to maxAttempts", () =>
    Effect.gen(function* () {
      const { count, handler } = counted(() => unavailable())
      const port = yield* serve({ Echo: handler })
      const client = yield* connect([port], { retry: { ...patient, maxAttempts: 3 } })
      const error = yield* Effect.flip(client.Echo({}, { timeout: "10 seconds" }))
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.strictEqual(count.calls, 3)
    })
  )

  it.live("is retried after the server's pushback, or not at all if that is negative", () =>
    Effect.gen(function* () {
      const called: Array<number> = []
      const port = yield* serve({
        Echo: ({ text }) =>
          Effect.suspend(() => {
            called.push(performance.now())
            if (called.length > 1 && text === "later") return Effect.succeed({ text, items: [] })
            const metadata = new Metadata()
            metadata.set("grpc-retry-pushback-ms", text === "later" ? "300" : "-1")
            return unavailable(metadata)
          })
      })
      const client = yield* connect([port])
      yield* client.Echo({ text: "later" }, { timeout: "10 seconds" })
      assert.strictEqual(called.length, 2)
      assert.isAtLeast(called[1]! - called[0]!, 295)
      yield* Effect.flip(client.Echo({ text: "never" }, { timeout: "10 seconds" }))
      assert.strictEqual(called.length, 3)
    })
  )

  it.live("is not retried on INVALID_ARGUMENT", () =>
    Effect.gen(function* () {
      const { count, handler } = counted(() => Effect.fail(new Echo.Refused({ field: "text" })))
      const port = yield* serve({ Echo: handler })
      const client = yield* connect([port])
      assert.strictEqual((yield* Effect.flip(client.Echo({}))).reason._tag, "InvalidArgument")
      assert.strictEqual(count.calls, 1)
    })
  )

  it.live("is not retried when the retry budget is exhausted", () =>
    Effect.gen(function* () {
      const { count, handler } = counted(() => unavailable())
      const port = yield* serve({ Echo: handler })
      const client = yield* connect([port], {
        circuitFailures: 1_000,
        retry: { ...patient, maxAttempts: 5, maxTokens: 10 }
      })
      for (let call = 0; call < 20; call++) yield* Effect.flip(client.Echo({}))
      // after four failures more than half of the ten tokens are left: four retries
      assert.strictEqual(count.calls, 24)
    })
  )

  it.live("doubles the timeout with each attempt, so that a slow server can respond", () =>
    Effect.gen(function* () {
      const { count, handler } = counted(() => slow)
      const port = yield* serve({ Echo: handler })
      const client = yield* connect([port], {
        retry: { ...patient, maxAttempts: 20, attemptTimeout: Duration.millis(100) }
      })
      assert.strictEqual((yield* client.Echo({}, { timeout: "30 seconds" })).text, "slow")
      // timeouts of 100 and 200 milliseconds are too short
      assert.isAtLeast(count.calls, 3)
      assert.isBelow(count.calls, 10)
    })
  )

  it.live("gets all the remaining time if the budget allows no further attempt", () =>
    Effect.gen(function* () {
      const { count, handler } = counted(() => slow)
      const port = yield* serve({ Echo: handler })
      const client = yield* connect([port], {
        retry: { ...patient, attemptTimeout: Duration.millis(50), maxTokens: 1 }
      })
      assert.strictEqual((yield* client.Echo({}, { timeout: "30 seconds" })).text, "slow")
      assert.strictEqual(count.calls, 1)
    })
  )

  it.live("gets all the remaining time if the budget allows no further attempt when its attempt times out", () =>
    Effect.gen(function* () {
      let calls = 0
      const port = yield* serve({
        Echo: ({ text }) => {
          if (text === "fail") return unavailable()
          calls++
          return slow
        }
      })
      const client = yield* connect([port], {
        retry: { ...patient, attemptTimeout: Duration.millis(150), maxTokens: 4 }
      })
      const call = yield* Effect.forkChild(client.Echo({}, { timeout: "30 seconds" }), { startImmediately: true })
      // two attempts leave half of the four tokens
      yield* Effect.flip(client.Echo({ text: "fail" }, { timeout: "30 seconds" }))
      assert.strictEqual((yield* Fiber.join(call)).text, "slow")
      assert.strictEqual(calls, 1)
    })
  )

  it.live("is retried on another server if one hangs, which is suspended until it responds", () =>
    Effect.gen(function* () {
      let isHanging = true
      const { count, handler } = counted(() =>
        isHanging ? Effect.never : Effect.succeed({ text: "hanging", items: [] })
      )
      const hanging = yield* serve({ Echo: handler })
      const well = yield* serve({ Echo: () => Effect.succeed({ text: "well", items: [] }) })
      const client = yield* connect([hanging, well], {
        suspension: Duration.millis(300),
        retry: { ...patient, attemptTimeout: Duration.millis(200) }
      })
      for (let call = 0; call < 20; call++) {
        assert.strictEqual((yield* client.Echo({}, { timeout: "5 seconds" })).text, "well")
      }
      // the first call, and one probe after each suspension
      assert.isAtLeast(count.calls, 1)
      assert.isAtMost(count.calls, 4)
      isHanging = false
      const { text } = yield* client
        .Echo({}, { timeout: "5 seconds" })
        .pipe(
          Effect.repeat({ until: ({ text }) => text === "hanging", schedule: Schedule.spaced("10 millis") }),
          Effect.timeout("10 seconds")
        )
      assert.strictEqual(text, "hanging")
      // round robin includes it again
      const before = count.calls
      for (let call = 0; call < 10; call++) yield* client.Echo({})
      assert.strictEqual(count.calls - before, 5)
    })
  )

  it.live("uses a suspended server again while the stream that probed it is still open", () =>
    Effect.gen(function* () {
      let isHanging = true
      let streams = 0
      const { count, handler } = counted(() =>
        isHanging ? Effect.never : Effect.succeed({ text: "hanging", items: [] })
      )
      const begun = Stream.concat(Stream.succeed({ text: "begun", items: [] }), Stream.never)
      const hanging = yield* serve({
        Echo: handler,
        Expand: () =>
          Stream.suspend(() => {
            streams++
            return begun
          })
      })
      const well = yield* serve({ Expand: () => begun })
      const client = yield* connect([hanging, well], {
        suspension: Duration.millis(300),
        retry: { ...patient, attemptTimeout: Duration.millis(200) }
      })
      const call = client.Echo({}, { timeout: "5 seconds" })
      yield* Effect.repeat(call, { until: () => count.calls > 0 })
      const openStream = Effect.forkScoped(Stream.runDrain(client.Expand({})))
      yield* openStream.pipe(
        Effect.repeat({ until: () => streams > 0, schedule: Schedule.spaced("20 millis") }),
        Effect.timeout("10 seconds")
      )
      isHanging = false
      yield* call.pipe(
        Effect.repeat({ until: ({ text }) => text === "hanging", schedule: Schedule.spaced("10 millis") }),
        Effect.timeout("10 seconds")
      )
    })
  )

  it.live("keeps its attemptTimeout without a deadline if the budget is exhausted", () =>
    Effect.gen(function* () {
      const port = yield* serve({ Echo: () => Effect.never })
      const client = yield* connect([port], {
        retry: { ...patient, attemptTimeout: Duration.millis(50), maxTokens: 1 }
      })
      assert.strictEqual((yield* Effect.flip(client.Echo({}))).reason._tag, "DeadlineExceeded")
    })
  )

  it.live("is retried on another server while one closes", () =>
    Effect.gen(function* () {
      const leaving = yield* Scope.make()
      const [first, second] = [yield* Scope.provide(serve({}), leaving), yield* serve({})]
      const client = yield* connect([first, second])
      yield* client.Echo({ text: "both serve" })
      yield* Effect.forkScoped(Scope.close(leaving, Exit.void))
      yield* Effect.forEach(
        Array.from({ length: 500 }),
        () => client.Echo({ text: "one has closed" }, { timeout: "5 seconds" }),
        { concurrency: 10, discard: true }
      )
    })
  )
})

describe("a method that is not idempotent", () => {
  it.live("is attempted once", () =>
    Effect.gen(function* () {
      const { count, handler } = counted(() => unavailable())
      const port = yield* serve({ EchoOnce: handler })
      const client = yield* connect([port])
      assert.strictEqual((yield* Effect.flip(client.EchoOnce({}))).reason._tag, "Unavailable")
      assert.strictEqual(count.calls, 1)
    })
  )

  it.live("ignores attemptTimeout and gets the whole deadline", () =>
    Effect.gen(function* () {
      const port = yield* serve({
        EchoOnce: ({ text }) => Effect.delay(Effect.succeed({ text, items: [] }), "400 millis")
      })
      const client = yield* connect([port], { retry: { ...patient, attemptTimeout: Duration.millis(50) } })
      assert.strictEqual((yield* client.EchoOnce({ text: "slow" }, { timeout: "10 seconds" })).text, "slow")
    })
  )
})

describe("the circuit breaker of a service", () => {
  it.live("opens after consecutive failures, and closes once a probe succeeds", () =>
    Effect.gen(function* () {
      let isDown = true
      const { count, handler } = counted(() => (isDown ? unavailable() : Effect.succeed({ text: "up", items: [] })))
      const port = yield* serve({ EchoOnce: handler })
      const client = yield* connect([port], { circuitFailures: 3, circuitOpen: Duration.millis(200) })
      for (let call = 0; call < 3; call++) yield* Effect.flip(client.EchoOnce({}))
      const error = yield* Effect.flip(client.EchoOnce({}))
      assert.match(error.reason.message, /^Circuit breaker is open for /)
      assert.strictEqual(error.reason._tag, "Unavailable")
      assert.strictEqual(count.calls, 3)
      isDown = false
      const { text } = yield* client
        .EchoOnce({})
        .pipe(Effect.retry(Schedule.spaced("10 millis")), Effect.timeout("10 seconds"))
      assert.strictEqual(text, "up")
      assert.strictEqual(count.calls, 4)
    })
  )

  it.live("does not begin attempts while it is open", () =>
    Effect.gen(function* () {
      let begun = 0
      const attemptObservers = [{ onStart: () => void begun++ }]
      const { count, handler } = counted(() => unavailable())
      const client = yield* connect([yield* serve({ EchoOnce: handler })], { circuitFailures: 1 }, { attemptObservers })
      yield* Effect.flip(client.EchoOnce({}))
      const { reason } = yield* Effect.flip(client.EchoOnce({}))
      assert.match(reason.message, /^Circuit breaker is open for /)
      assert.deepStrictEqual([count.calls, begun], [1, 1])
    })
  )
})

describe("a channel that cannot connect", () => {
  it.live("is replaced after connectTimeout, and its calls fail with UNAVAILABLE", () =>
    Effect.gen(function* () {
      const client = yield* connect([yield* TcpPort.accept()], {
        ...defaultPolicy,
        connectTimeout: Duration.millis(300)
      })
      // fails long before the deadline
      const error = yield* Effect.flip(client.EchoOnce({}, { timeout: "1 minute" }))
      assert.strictEqual(error.reason._tag, "Unavailable")
    })
  )
})

describe("an overloaded server", () => {
  it.live("sheds calls above its limits with a pushback, and serves their retries", () =>
    Effect.gen(function* () {
      const port = yield* serve(
        {
          Echo: ({ text }) => Effect.delay(Effect.succeed({ text, items: [] }), "100 millis"),
          EchoOnce: ({ text }) => Effect.delay(Effect.succeed({ text, items: [] }), "100 millis")
        },
        { limits: { maxConcurrency: 2, maxQueue: 1, maxQueueWait: Duration.seconds(5) } }
      )
      const client = yield* connect([port])
      const results = yield* Effect.forEach(
        Array.from({ length: 6 }),
        () => Effect.option(Effect.flip(client.EchoOnce({}))),
        { concurrency: "unbounded" }
      )
      const refused = results.filter(Option.isSome).map(({ value }) => value)
      assert.strictEqual(refused.length, 3)
      for (const { reason } of refused) {
        assert.strictEqual(reason._tag, "ResourceExhausted")
        const [pushback] = reason.metadata.get("grpc-retry-pushback-ms")
        assert.deepStrictEqual(
          reason.details.map((detail) => detail._tag === "RetryInfo" && Duration.toMillis(detail.retryDelay)),
          [Number(pushback)]
        )
        assert.isAtLeast(Number(pushback), 1)
      }
      // the same calls of an idempotent method are retried
      yield* Effect.forEach(Array.from({ length: 6 }), () => client.Echo({}, { timeout: "10 seconds" }), {
        concurrency: "unbounded"
      })
    })
  )
})
