/**
 * Exceptions in the callbacks of a unary call, which grpc-js would not catch, and responses during a long turn of the event loop.
 */
import { once } from "node:events"
import { Worker } from "node:worker_threads"

import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer } from "effect"

import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import { GrpcChannel, type ResponseMetadata } from "../../../../src/layers/grpc/GrpcChannel.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import * as RetryPolicy from "../../../../src/layers/grpc/RetryPolicy.ts"
import { EchoServer, EchoService } from "../../../../src/layers/testing/EchoServer.ts"
import * as Logs from "../../telemetry/Logs.ts"

/** A client whose listener for response metadata throws when it receives a part of it, and another one. One call may be in flight. */
const connect = Effect.fnUntraced(function* (part: keyof ResponseMetadata) {
  const { target } = yield* EchoServer
  const channel = Context.get(
    yield* Layer.build(NodeGrpcChannel.layer({ target, policy: { maxCalls: 1 } })),
    GrpcChannel
  )
  const onResponseMetadata = (metadata: Partial<ResponseMetadata>) => {
    if (part in metadata) throw new Error("a bug")
  }
  const throwing = GrpcChannel.of({
    ...channel,
    unary: (call, request) => channel.unary({ ...call, onResponseMetadata }, request)
  })
  const make = GrpcClient.make(EchoService)
  return {
    throwing: yield* Effect.provideService(make, GrpcChannel, throwing),
    client: yield* Effect.provideService(make, GrpcChannel, channel)
  }
})

describe("an exception in a callback of a unary call", () => {
  it.live.each([
    { part: "headers", callback: "response headers of a gRPC call" },
    { part: "trailers", callback: "status of a gRPC call" }
  ] as const)("fails the call with INTERNAL, is logged, and releases the client: $callback", ({ callback, part }) => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const { client, throwing } = yield* connect(part)
      const { reason } = yield* Effect.flip(throwing.Echo({ text: "fail" }))
      assert.deepStrictEqual([reason._tag, reason.message], ["Internal", "Internal error of the client"])
      const [line, ...others] = logs.lines().filter(({ message }) => message === `Exception in a callback: ${callback}`)
      assert.deepInclude(line?.annotations, { method: `/${EchoService.name}/Echo` })
      assert.match(line?.cause ?? "", /a bug/)
      assert.deepStrictEqual(others, [])
      assert.strictEqual((yield* client.Echo({ text: "next" })).text, "next")
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(EchoServer.layer(), logs.layer)))
  })
})

/** The states of a call to {@link serverInWorker}. */
const state = { none: 0, received: 1, isAwaited: 2, answered: 3 } as const

/** A server in a thread of its own. It answers once the state is `isAwaited`. */
const serverInWorker = `
  const { createServer } = require("node:http2")
  const { parentPort, workerData: states } = require("node:worker_threads")
  const server = createServer()
  server.on("stream", (stream) => {
    Atomics.add(states, 1, 1)
    Atomics.store(states, 0, ${state.received})
    Atomics.wait(states, 0, ${state.received})
    stream.respond({ "content-type": "application/grpc" }, { waitForTrailers: true })
    stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }))
    stream.once("close", () => Atomics.store(states, 0, ${state.answered}))
    // an empty message
    stream.end(Buffer.alloc(5))
  })
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port))
`

describe("a response that arrives during a long turn of the event loop", () => {
  it.live("is read before the attempt times out", () =>
    Effect.gen(function* () {
      const states = new Int32Array(new SharedArrayBuffer(12))
      const worker = yield* Effect.acquireRelease(
        Effect.sync(() => new Worker(serverInWorker, { eval: true, workerData: states })),
        (worker) => Effect.promise(() => worker.terminate())
      )
      const [port] = yield* Effect.promise(() => once(worker, "message") as Promise<[number]>)
      const attemptTimeout = 500
      const policy = { retry: { ...RetryPolicy.defaults, attemptTimeout: Duration.millis(attemptTimeout) } }
      const channel = yield* Layer.build(NodeGrpcChannel.layer({ target: `ipv4:127.0.0.1:${port}`, policy }))
      const client = yield* Effect.provideContext(GrpcClient.make(EchoService), channel)
      /** Blocks the event loop from when the server has received the call until after the timeout of its attempt. */
      const block = Effect.gen(function* () {
        yield* Effect.repeat(
          Effect.sync(() => Atomics.load(states, 0)),
          { until: (now) => now === state.received }
        )
        Atomics.store(states, 0, state.isAwaited)
        Atomics.notify(states, 0)
        // nothing changes this state
        Atomics.wait(states, 2, 0, 1.5 * attemptTimeout)
        return Atomics.load(states, 0)
      })
      const call = client.Echo({}, { timeout: "30 seconds" })
      const [response, reached] = yield* Effect.all([call, block], { concurrency: "unbounded" })
      assert.strictEqual(reached, state.answered)
      assert.strictEqual(response.text, "")
      assert.strictEqual(Atomics.load(states, 1), 1)
    }).pipe(Effect.scoped)
  )
})
