/**
 * A program that makes many calls of all kinds between a server and a client in one process. A third are cancelled at a random
 * moment, and a tenth exceed their deadline. It prints a census after the warm-up and one after all calls, as JSON.
 *
 *     node --expose-gc test/layers/grpc/ManyCalls.ts 1000000
 */
import { subscribe } from "node:diagnostics_channel"

import { Duration, Effect, Fiber, Layer, Logger, Metric, References, Result, Stream } from "effect"

import * as NodeGrpcChannel from "../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import { GrpcCall } from "../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import type { GrpcError } from "../../../src/layers/grpc/GrpcError.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import * as RetryPolicy from "../../../src/layers/grpc/RetryPolicy.ts"
import * as NodeGrpcServer from "../../../src/layers/grpc/server/NodeGrpcServer.ts"
import * as Status from "../../../src/layers/grpc/Status.ts"
import { Drain } from "../../../src/layers/process/Drain.ts"
import type { EchoRequest__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"
import * as Echo from "./Echo.ts"

/** The live objects at one moment. */
export interface Census {
  readonly fibers: number
  /** Handlers that have started and whose finalizers have not run. */
  readonly handlers: number
  /** The load that the server reports. */
  readonly load: { readonly answering: number; readonly waiting: number; readonly refused: number }
  /** The open HTTP/2 streams of both sides. */
  readonly streams: number
  /** What keeps the process alive: sockets, listeners, timers, by type. */
  readonly resources: { readonly [type: string]: number }
  /** After garbage collection, in bytes. */
  readonly heapUsed: number
}

export interface Report {
  readonly before: Census
  readonly after: Census
  /** The number of calls by outcome. */
  readonly outcomes: { readonly [outcome: string]: number }
  readonly seconds: number
}

const total = Number(process.argv[2] ?? 20_000)
const warmUp = Math.max(2_000, total / 10)
const concurrency = 50

const counts = { fibers: 0, handlers: 0, streams: 0 }

const fiberMetrics: Metric.FiberRuntimeMetricsService = {
  recordFiberStart: () => {
    counts.fibers++
  },
  recordFiberEnd: () => {
    counts.fibers--
  }
}

for (const side of ["client", "server"]) {
  subscribe(`http2.${side}.stream.created`, () => counts.streams++)
  subscribe(`http2.${side}.stream.close`, () => counts.streams--)
}

const counted = Effect.acquireRelease(
  Effect.sync(() => counts.handlers++),
  () => Effect.sync(() => counts.handlers--)
)

/** Texts of requests that choose what the handler does. */
const slow = "slow"
const busyAtFirst = "busy at first"

const answerTo = Effect.fnUntraced(function* ({ text }: Pick<EchoRequest__Output, "text">) {
  yield* counted
  if (text === slow) return yield* Effect.never
  if (text === busyAtFirst && (yield* GrpcCall).metadata.get("grpc-previous-rpc-attempts").length === 0) {
    return yield* new Echo.Refused({ field: "busy" })
  }
  return { text, items: [] }
})

const handlers = {
  Echo: (request: EchoRequest__Output) => Effect.scoped(answerTo(request)),
  EchoOnce: (request: EchoRequest__Output) => Effect.scoped(answerTo(request)),
  Expand: (request: EchoRequest__Output) =>
    Stream.flatMap(Stream.scoped(Stream.fromEffect(answerTo({ text: "" }))), (answer) =>
      Stream.concat(
        Stream.make(answer, answer, answer),
        request.text === slow ? Stream.scoped(Stream.fromEffect(answerTo(request))) : Stream.empty
      )
    ),
  Collect: (requests: Stream.Stream<EchoRequest__Output>) =>
    Effect.scoped(
      Effect.andThen(
        answerTo({ text: "" }),
        Effect.flatMap(Stream.runLast(requests), (last) =>
          answerTo({ text: last._tag === "Some" ? last.value.text : "" })
        )
      )
    ),
  Chat: (requests: Stream.Stream<EchoRequest__Output>) =>
    Stream.mapEffect(requests, (request) => Effect.scoped(answerTo(request)))
}

const server = GrpcServer.serve(Echo.EchoService, Effect.succeed(handlers), {
  Refused: () => Status.unavailable("busy")
}).pipe(
  NodeGrpcServer.listen({ host: "127.0.0.1", port: 0, limits: { maxConcurrency: 1_000 } }),
  Layer.provideMerge(Drain.layerTest())
)

const client = Effect.gen(function* () {
  const target = yield* Echo.target
  // deadlines expire on purpose here, and must not cause retries or open the circuit breaker
  const policy = {
    circuitFailures: Number.MAX_SAFE_INTEGER,
    retry: { ...RetryPolicy.defaults, attemptTimeout: Duration.seconds(10) }
  }
  const context = yield* Layer.build(NodeGrpcChannel.layer({ target, policy }))
  return yield* Effect.provideContext(GrpcClient.make(Echo.EchoService), context)
})

/** Pseudo-random numbers from 0 to 1, the same in each run (xorshift). */
let state = 0x2545f491
const chance = () => {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) / 2 ** 32
}

const turn = Effect.callback<void>((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

const program = Effect.gen(function* () {
  const { load } = yield* GrpcServer.GrpcServer
  const { Chat, Collect, Echo: call, EchoOnce, Expand } = yield* client
  const outcomes: { [outcome: string]: number } = {}

  const make = (text: string, options: GrpcClient.CallOptions): Effect.Effect<unknown, GrpcError> => {
    const requests = Stream.make({ text: "" }, { text })
    const kind = chance()
    if (kind < 0.4) return call({ text: text === "" && kind < 0.02 ? busyAtFirst : text }, options)
    if (kind < 0.7) return EchoOnce({ text }, options)
    if (kind < 0.8) return Stream.runDrain(Expand({ text }, options))
    if (kind < 0.9) return Collect(requests, options)
    return Stream.runDrain(Chat(requests, options))
  }

  const one = Effect.gen(function* () {
    const fate = chance()
    let outcome: string
    if (fate < 1 / 3) {
      const fiber = yield* Effect.forkChild(make(fate < 1 / 6 ? slow : "", {}), { startImmediately: true })
      // cancels it after zero to five turns of the event loop
      for (let turns = Math.floor(chance() * 6); turns > 0; turns--) yield* turn
      yield* Fiber.interrupt(fiber)
      outcome = "cancelled"
    } else {
      const isLate = fate < 1 / 3 + 1 / 10
      const result = yield* Effect.result(make(isLate ? slow : "", isLate ? { timeout: Duration.millis(5) } : {}))
      outcome = Result.isSuccess(result) ? "OK" : result.failure.reason._tag
      if (!["OK", "DeadlineExceeded"].includes(outcome)) outcome += `: ${String(result)}`
    }
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
  })

  const calls = (count: number) => {
    let left = count
    const worker: Effect.Effect<void> = Effect.whileLoop({
      while: () => left-- > 0,
      body: () => one,
      step: () => {}
    })
    return Effect.forEach(Array.from({ length: concurrency }), () => worker, { concurrency, discard: true })
  }

  const resources = () => {
    const found: { [type: string]: number } = {}
    for (const type of process.getActiveResourcesInfo()) found[type] = (found[type] ?? 0) + 1
    return found
  }

  const census = Effect.gen(function* () {
    // waits for cancellations in transit; those that never arrive show up in the report
    for (let turns = 0; turns < 2_000; turns++) {
      if (counts.streams === 0 && counts.handlers === 0 && resources()["Immediate"] === undefined) break
      yield* turn
    }
    let heapUsed = Infinity
    for (let collections = 0; collections < 8; collections++) {
      globalThis.gc?.()
      // lets finalizers run
      yield* turn
      heapUsed = Math.min(heapUsed, process.memoryUsage().heapUsed)
    }
    return { ...counts, load: yield* load, resources: resources(), heapUsed } satisfies Census as Census
  })

  yield* calls(warmUp)
  const before = yield* census
  const startedAt = performance.now()
  yield* calls(total - warmUp)
  const seconds = (performance.now() - startedAt) / 1_000
  const after = yield* census
  process.stdout.write(JSON.stringify({ before, after, outcomes, seconds } satisfies Report))
})

Effect.runFork(
  program.pipe(
    Effect.scoped,
    // logs nothing: rate limiters of log lines would leave timers behind
    Effect.provide(
      server.pipe(Layer.provideMerge(Layer.merge(Logger.layer([]), Layer.succeed(References.MinimumLogLevel, "None"))))
    ),
    Effect.provideService(Metric.FiberRuntimeMetrics, fiberMetrics)
  )
)
