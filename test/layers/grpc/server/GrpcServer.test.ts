import { assert, describe, it } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import {
  Cause,
  Context,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  References,
  Result,
  Scope
} from "effect"

import * as EmbeddedProtos from "../../../../src/layers/grpc/EmbeddedProtos.ts"
import * as GrpcServer from "../../../../src/layers/grpc/GrpcServer.ts"
import * as NodeGrpcServer from "../../../../src/layers/grpc/server/NodeGrpcServer.ts"
import { Drain } from "../../../../src/layers/process/Drain.ts"
import * as EchoServer from "../../../../src/layers/testing/EchoServer.ts"
import * as RawCall from "../../../integration/RawCall.ts"
import * as Logs from "../../telemetry/Logs.ts"
import * as Echo from "../Echo.ts"

const path = `/${Echo.EchoService.name}/Echo`

describe("GrpcServer", () => {
  it.live("runs calls concurrently", () =>
    Effect.gen(function* () {
      let started = 0
      const allStarted = yield* Deferred.make<void>()
      const handler = Effect.fnUntraced(function* ({ text }: { readonly text: string }) {
        if (++started === 5) yield* Deferred.succeed(allStarted, undefined)
        yield* Deferred.await(allStarted)
        return { text, items: [] }
      })
      const { client } = yield* Echo.start({ Echo: handler })
      const answers = yield* Effect.forEach(["a", "b", "c", "d", "e"], (text) => client.Echo({ text }), {
        concurrency: 5
      })
      assert.deepStrictEqual(
        answers.map(({ text }) => text),
        ["a", "b", "c", "d", "e"]
      )
    })
  )

  it.live.each([
    ["0.0.0.0", true],
    ["127.0.0.1", false]
  ] as const)("names its services in a warning if they are served in plaintext on %s: %s", ([host, warns]) => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      yield* Layer.build(
        EchoServer.serve().pipe(NodeGrpcServer.listen({ host, port: 0 }), Layer.provide(Drain.layerTest()))
      )
      const warnings = logs.lines().filter(({ level }) => level === "WARN")
      assert.deepStrictEqual(
        warnings.map(({ annotations }) => annotations["services"]),
        warns ? [Echo.EchoService.name] : []
      )
    }).pipe(Effect.scoped, Effect.provide(logs.layer))
  })

  it.live("maps an error to its status, with details", () =>
    Effect.gen(function* () {
      const { Echo: call } = yield* Echo.client
      const status = yield* call({ text: "x" }).pipe(
        Effect.map(() => assert.fail("it should fail")),
        Effect.catchReason("GrpcError", "InvalidArgument", (status) => Effect.succeed(status))
      )
      assert.strictEqual(status.code, 3)
      assert.strictEqual(status.message, "text: refused")
      assert.deepStrictEqual(status.details, [
        { _tag: "BadRequest", fieldViolations: [{ field: "text", description: "refused" }] }
      ])
    }).pipe(Effect.provide(Echo.layer(() => Effect.fail(new Echo.Refused({ field: "text" })))))
  )

  it.live.each([
    { what: "dies", handler: () => Effect.die(new Error("secret")) },
    {
      what: "throws",
      handler: () => {
        throw new Error("secret")
      }
    },
    {
      what: "fails with an error whose status throws",
      handler: () => Effect.fail(new Echo.Refused({ field: "throw" }))
    },
    // an item must be a message
    {
      what: "returns a response that cannot be encoded",
      handler: () => Effect.succeed({ text: "", items: ["secret" as never] })
    }
  ])("logs why a handler $what, and sends INTERNAL without the cause", ({ handler }) =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ cause, fiber, message }) => {
        lines.push(
          `${JSON.stringify(fiber.getRef(References.CurrentLogAnnotations))} ${String(message)} ${Cause.pretty(cause)}`
        )
      })
      const { client } = yield* Effect.provide(Echo.start({ Echo: handler }), Logger.layer([logger]))
      const { reason: status } = yield* Effect.flip(client.Echo({}))
      assert.strictEqual(status._tag, "Internal")
      assert.strictEqual(status.message, "Internal error")
      assert.notInclude(JSON.stringify(status), "secret")
      const ids = status.details.map((detail) => (detail._tag === "RequestInfo" ? detail.requestId : detail._tag))
      assert.strictEqual(ids.length, 1)
      // an attempt that timed out is logged with another id
      const line = lines.find((line) => line.includes("Unexpected error in a gRPC handler") && line.includes(ids[0]!))
      assert.match(line ?? "", /secret|object expected/)
    })
  )
})

describe("a call whose deadline has expired", () => {
  it.live("does not run its handler if its message arrives later", () => {
    let handled = 0
    return Effect.gen(function* () {
      const { port } = yield* (yield* GrpcServer.GrpcServer).address
      const call = yield* RawCall.hold(port, path, { "grpc-timeout": "50m" })
      yield* call.send
      // sent by grpc-js itself
      assert.strictEqual(yield* call.status, "4")
      yield* call.end
      // a later call is answered
      yield* (yield* Echo.client).Echo({})
      assert.strictEqual(handled, 1)
    }).pipe(
      Effect.provide(
        Echo.layer((request) => {
          handled++
          return Echo.echo(request)
        })
      )
    )
  })
})

describe("a closing GrpcServer", () => {
  /** Closes a server during a call, which finishes or hangs once the server has begun to close. */
  const closeDuringCall = (timeout: Duration.Duration, then: "finish" | "hang") =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const draining = yield* Deferred.make<void>()
      let interrupted = false
      const handler = ({ text }: { readonly text: string }) =>
        Effect.gen(function* () {
          yield* Deferred.succeed(started, undefined)
          yield* Deferred.await(draining)
          if (then === "hang") return yield* Effect.never
          return { text, items: [] }
        }).pipe(Effect.onInterrupt(() => Effect.sync(() => (interrupted = true))))
      const drain = Layer.succeed(Drain, {
        isStarted: Effect.succeed(true),
        isDraining: Effect.succeed(true),
        awaitDraining: Effect.void,
        timeLeft: Effect.as(Deferred.succeed(draining, undefined), timeout)
      })
      const lines: Array<string> = []
      const logger = Logger.layer([Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))])

      const scope = yield* Scope.make()
      const server = Echo.serve({ EchoOnce: handler }, { drain })
      const services = yield* Layer.buildWithScope(server.pipe(Layer.provideMerge(logger)), scope)
      // the client stays connected
      const { EchoOnce: call } = yield* Effect.provideContext(Echo.client, services)
      const calling = yield* Effect.forkChild(Effect.result(call({ text: "in flight" })))
      yield* Deferred.await(started)
      // lets the handler start to wait
      yield* Effect.yieldNow
      yield* Scope.close(scope, Exit.void)
      return { result: yield* Fiber.join(calling), after: yield* Effect.result(call({})), interrupted, lines }
    })

  it.live("finishes the call in flight and rejects new ones", () =>
    Effect.gen(function* () {
      const { after, interrupted, lines, result } = yield* closeDuringCall(Duration.seconds(20), "finish")
      assert.deepStrictEqual(result, Result.succeed({ text: "in flight", items: [] }))
      assert.strictEqual(Result.isFailure(after) && after.failure.reason._tag, "Unavailable")
      assert.isFalse(interrupted)
      assert.include(lines, "gRPC server closed: 1 calls in flight finished, 0 aborted")
    })
  )

  it.live("aborts a call that takes longer than the drain timeout", () =>
    Effect.gen(function* () {
      const { interrupted, lines, result } = yield* closeDuringCall(Duration.millis(50), "hang")
      assert.strictEqual(Result.isFailure(result) && result.failure.reason._tag, "Unavailable")
      assert.strictEqual(Result.isFailure(result) && result.failure.reason.message, "The server is shutting down")
      assert.isTrue(interrupted)
      assert.include(lines, "gRPC server closed: 0 calls in flight finished, 1 aborted")
    })
  )
})

describe("a client that never half-closes its call", () => {
  it.live("gets UNAVAILABLE and is disconnected when the server closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = Echo.layer(Echo.echo, Drain.layerTest(Duration.millis(50)))
      const { address } = Context.get(yield* Layer.buildWithScope(server, scope), GrpcServer.GrpcServer)
      const call = yield* RawCall.hold((yield* address).port, path)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* call.status, String(status.UNAVAILABLE))
    })
  )
})

describe("the setup of a GrpcServer", () => {
  it("throws for a service that is not in its definitions", () => {
    const { definitions } = Echo.EchoService
    assert.throws(() => EmbeddedProtos.methods({ name: "a.B", definitions }), "No service a.B in its definitions")
    const message = "onlinebooks.layers.testing.EchoRequest"
    assert.throws(
      () => EmbeddedProtos.methods({ name: message, definitions }),
      `No service ${message} in its definitions`
    )
  })

  it.live("fails with an error that names a port in use", () =>
    Effect.gen(function* () {
      const { port } = yield* (yield* GrpcServer.GrpcServer).address
      const error = yield* Layer.build(
        Layer.fresh(NodeGrpcServer.listen({ host: "127.0.0.1", port })(Layer.empty))
      ).pipe(Effect.flip)
      assert.strictEqual(error.message, `port=${port}: expected a port that is free, but 127.0.0.1:${port} is in use`)
    }).pipe(Effect.provide(Echo.layer(Echo.echo)))
  )
})
