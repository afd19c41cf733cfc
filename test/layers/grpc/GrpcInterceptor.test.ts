import { assert, describe, it } from "@effect/vitest"
import { Metadata } from "@grpc/grpc-js"
import { Context, Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"

import { GrpcCall } from "../../../src/layers/grpc/GrpcCall.ts"
import type {
  ClientAttemptInterceptor,
  ClientInterceptor,
  ServerInterceptor
} from "../../../src/layers/grpc/GrpcInterceptor.ts"
import * as GrpcInterceptor from "../../../src/layers/grpc/GrpcInterceptor.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import * as RetryPolicy from "../../../src/layers/grpc/RetryPolicy.ts"
import * as Status from "../../../src/layers/grpc/Status.ts"
import { EchoService, methods } from "../../../src/layers/testing/EchoServer.ts"
import { GreeterService } from "../../../src/layers/testing/generated/services.ts"
import * as RawCall from "../../integration/RawCall.ts"
import * as Logs from "../telemetry/Logs.ts"
import * as Echo from "./Echo.ts"
import * as Outcomes from "./Outcomes.ts"

/** A value that interceptors put into the context. */
const Name = Context.Reference("test/layers/GrpcInterceptor/Name", { defaultValue: () => "nobody" })

/** An uncompressed message with its length prefix. */
const frame = (bytes: ReadonlyArray<number>) => Buffer.from([0, 0, 0, 0, bytes.length, ...bytes])

const throwing = () => {
  throw new Error("a bug")
}

/** The messages of the exceptions of interceptors in the log. */
const exceptionsIn = (logs: Logs.Recorder) =>
  logs
    .lines()
    .filter(({ message }) => message === "Exception in an interceptor")
    .map(({ cause = "" }) => /a bug/.exec(cause)?.[0])

/** Records calls and their statuses in `notes`. */
const noting = (notes: Array<string>, note = ({ kind }: GrpcCall["Service"]) => kind as string): ServerInterceptor => ({
  around: (answer, call) =>
    Effect.onExit(answer, (exit) =>
      Effect.sync(() => {
        notes.push(`${note(call)} ${call.statusOf(exit)?._tag ?? "OK"}${call.isRejected ? " rejected" : ""}`)
      })
    )
})

describe("a server interceptor", () => {
  it.live.each(Outcomes.cases)("sees $outcome of a $kind call", ({ code, kind, outcome }) =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const { run } = yield* Outcomes.make({ interceptors: [noting(notes)] })
      notes.length = 0
      yield* run(kind, outcome)
      assert.deepStrictEqual(notes, [`${kind} ${code}`])
    })
  )

  it.live("gets the properties of the call", () =>
    Effect.gen(function* () {
      const calls: Array<GrpcCall["Service"]> = []
      const recording: ServerInterceptor = {
        around: (answer, call) => {
          calls.push(call)
          return answer
        }
      }
      const { client } = yield* Outcomes.serve({ interceptors: [recording] })
      const metadata = new Metadata()
      metadata.set("accept-language", "de")
      yield* client.EchoOnce({ text: "hello" }, { metadata, timeout: "1 minute" })
      const [call, ...others] = calls
      assert.deepStrictEqual(others, [])
      assert(call !== undefined)
      assert.strictEqual(call.service, EchoService.name)
      assert.strictEqual(call.method, "EchoOnce")
      assert.strictEqual(call.name, `${EchoService.name}/EchoOnce`)
      assert.match(call.peer.address, /^127\.0\.0\.1:\d+$/)
      assert.deepStrictEqual(call.metadata.get("accept-language"), ["de"])
      assert.closeTo(call.deadline, performance.now() + 60_000, 30_000)
      assert.isFalse(call.isRejected)
      assert.isAtMost(call.startedAt, performance.now())
      assert.strictEqual(call.id, call.id)
    })
  )

  it.live("wraps the interceptors after it, and all wrap the handler", () =>
    Effect.gen(function* () {
      const steps: Array<string> = []
      const step = (name: string) => Effect.sync(() => void steps.push(name))
      const named = (name: string): ServerInterceptor => ({
        around: (answer) =>
          step(`${name} begins`).pipe(
            Effect.andThen(answer),
            Effect.ensuring(Effect.suspend(() => step(`${name} ends`)))
          )
      })
      const { client } = yield* Outcomes.serve({
        observers: [named("observer")],
        interceptors: [named("first"), named("second")],
        inputs: { hello: step("handler") }
      })
      yield* client.Echo({ text: "hello" })
      assert.deepStrictEqual(steps, [
        "observer begins",
        "first begins",
        "second begins",
        "handler",
        "second ends",
        "first ends",
        "observer ends"
      ])
    })
  )

  it.live.each(Outcomes.kinds)("can answer a %s call in place of the handler", (kind) =>
    Effect.gen(function* () {
      let handled = 0
      const authenticate: ServerInterceptor = {
        around: (answer, { metadata }) =>
          metadata.get("authorization").length > 0 ? answer : Effect.fail(Status.unauthenticated("Who are you?"))
      }
      const { call } = yield* Outcomes.serve({
        interceptors: [authenticate],
        inputs: { hello: Effect.sync(() => void handled++) }
      })
      const { reason } = yield* Effect.flip(call(kind, "hello"))
      assert.deepStrictEqual([reason._tag, reason.message], ["Unauthenticated", "Who are you?"])
      assert.strictEqual(handled, 0)
      const metadata = new Metadata()
      metadata.set("authorization", "it is me")
      assert.deepStrictEqual(yield* call(kind, "hello", { metadata }), ["hello"])
      assert.strictEqual(handled, 1)
    })
  )

  it.live("can provide context to handlers", () =>
    Effect.gen(function* () {
      const found: Array<string> = []
      const { client } = yield* Outcomes.serve({
        interceptors: [{ around: (answer) => Effect.withSpan(answer, "outer") }],
        inputs: {
          hello: Effect.flatMap(Effect.orDie(Effect.currentSpan), ({ name }) =>
            Effect.flatMap(GrpcCall, ({ method }) => Effect.sync(() => void found.push(`${name} ${method}`)))
          )
        }
      })
      yield* client.Echo({ text: "hello" })
      assert.deepStrictEqual(found, ["outer Echo"])
    })
  )

  it.live("can observe the messages of a stream", () =>
    Effect.gen(function* () {
      let messages = 0
      const counting: ServerInterceptor = {
        aroundStream: (stream) => Stream.tap(stream, () => Effect.sync(() => void messages++))
      }
      const { client } = yield* Outcomes.serve({ interceptors: [counting] })
      yield* Stream.runDrain(client.Expand({ text: "hello", numbers: [1, 2, 3] }))
      yield* client.Echo({ text: "hello" })
      assert.strictEqual(messages, 3)
    })
  )

  const path = `/${EchoService.name}/Echo`
  it.live.each([
    { what: "an unknown method", path: `${path}zzz9`, code: "Unimplemented", name: "_OTHER/_OTHER" },
    { what: "an unknown service", path: "/zzz9/zzz9", code: "Unimplemented", name: "_OTHER/_OTHER" },
    { what: "an invalid path", path: "/", code: "Unimplemented", name: "_OTHER/_OTHER" },
    { what: "a message that does not decode", body: frame([0xff, 0xff, 0xff]), code: "Internal" },
    { what: "no message", body: Buffer.alloc(0), code: "Unimplemented" },
    { what: "two messages", body: Buffer.concat([frame([]), frame([])]), code: "Unimplemented" },
    { what: "another content type", headers: { "content-type": "text/plain" }, code: "Unknown" },
    { what: "an invalid deadline", headers: { "grpc-timeout": "soon" }, code: "Internal" }
  ])("runs once for a call that is rejected before its handler: $what", (wrong) =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const interceptor = noting(notes, ({ method, service }) => `${service}/${method}`)
      const { run, seen, target } = yield* Outcomes.make({ interceptors: [interceptor] })
      notes.length = 0
      yield* RawCall.send(target, { path, body: frame([]), ...wrong })
      yield* seen
      yield* run("unary", "success")
      assert.deepStrictEqual(notes, [`${wrong.name ?? path.slice(1)} ${wrong.code} rejected`, `${path.slice(1)} OK`])
    })
  )

  it.live.each(Outcomes.cases)(
    "runs hooks for $outcome of a $kind call, with and without other interceptors that wrap the call",
    ({ code, kind, outcome }) =>
      Effect.gen(function* () {
        const hooks = (notes: Array<string>): ServerInterceptor => ({
          onStart: (call, context) => {
            notes.push(`${call.kind} begins`)
            return Context.add(context, Name, "told")
          },
          onEnd: (call, exit, status, context) => {
            assert.strictEqual(status?._tag, call.statusOf(exit)?._tag)
            notes.push(`${call.kind} ends with ${status?._tag ?? "OK"}, ${Context.get(context, Name)}`)
            return Effect.sync(() => void notes.push("and after that"))
          }
        })
        const around: ServerInterceptor = { around: (answer) => answer }
        const expected = [`${kind} begins`, `${kind} ends with ${code}, told`, "and after that"]
        for (const interceptors of [[], [around]]) {
          for (const observers of [[], [around]]) {
            const notes: Array<string> = []
            const { run } = yield* Outcomes.make({ observers: [...observers, hooks(notes)], interceptors })
            notes.length = 0
            yield* run(kind, outcome)
            assert.deepStrictEqual(notes, expected)
          }
        }
      })
  )

  it.live("runs onStart in the order of the list, and onEnd in reverse", () =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const named = (name: string): ServerInterceptor => ({
        onStart: () => void notes.push(`${name} begins`),
        onEnd: () => void notes.push(`${name} ends`)
      })
      const { run } = yield* Outcomes.make({ observers: [named("a")], interceptors: [named("b"), named("c")] })
      notes.length = 0
      yield* run("unary", "success")
      assert.deepStrictEqual(notes, ["a begins", "b begins", "c begins", "c ends", "b ends", "a ends"])
    })
  )

  it.live("does not affect a call when a hook throws or fails, which is logged", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const notes: Array<string> = []
      const { call } = yield* Outcomes.make({
        observers: [
          { onEnd: () => void notes.push("ended") },
          { onStart: throwing },
          { onEnd: throwing },
          { onEnd: () => Effect.die(new Error("a bug")) }
        ]
      })
      notes.length = 0
      logs.clear()
      assert.deepStrictEqual(yield* call("unary", "hello"), ["hello"])
      assert.deepStrictEqual(notes, ["ended"])
      assert.deepStrictEqual(exceptionsIn(logs), ["a bug", "a bug", "a bug"])
    }).pipe(Effect.scoped, Effect.provide(logs.layer))
  })

  it.live("sees a stream with a message that does not decode", () =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const { seen, target } = yield* Outcomes.make({ interceptors: [noting(notes)] })
      notes.length = 0
      const body = Buffer.concat([frame([]), frame([0xff, 0xff, 0xff])])
      assert.strictEqual(yield* RawCall.send(target, { path: `/${EchoService.name}/Chat`, body }), "13")
      yield* seen
      assert.deepStrictEqual(notes, ["bidi Internal rejected"])
    })
  )

  it.live("sees a call that is evicted", () =>
    Effect.gen(function* () {
      const messages: Array<string | undefined> = []
      const { client, target } = yield* Outcomes.make({
        // enough for one call
        limits: { maxBytesInFlight: 20 * 1024 },
        interceptors: [
          {
            around: (answer, call) =>
              Effect.onExit(answer, (exit) => Effect.sync(() => void messages.push(call.statusOf(exit)?.message)))
          }
        ]
      })
      messages.length = 0
      const held = yield* RawCall.hold(Number(target.split(":")[1]), path)
      yield* client.EchoOnce({})
      assert.match(yield* held.status, /NGHTTP2_ENHANCE_YOUR_CALM/)
      assert.deepStrictEqual(messages, ["Evicted: the call stalled while the server was saturated", undefined])
    })
  )

  it.live.each(Outcomes.kinds)("sees a %s call that a closing server aborts", (kind) =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const scope = yield* Scope.make()
      const { call, started } = yield* Effect.provideService(
        Outcomes.make({ interceptors: [noting(notes)] }),
        Scope.Scope,
        scope
      )
      notes.length = 0
      const cut = yield* Effect.forkChild(Effect.flip(call(kind, "hang")))
      yield* started
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(cut)
      assert.deepStrictEqual(notes, [`${kind} Unavailable`])
    })
  )

  it.live.each(Outcomes.kinds)("that throws makes a %s call die, which outer interceptors see", (kind) =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const throwing: ServerInterceptor = {
        around: () => {
          throw new Error(Outcomes.secret)
        }
      }
      const { call, target } = yield* Outcomes.serve({ observers: [noting(notes)], interceptors: [throwing] })
      const { reason } = yield* Effect.flip(call(kind, "hello"))
      assert.deepStrictEqual([reason._tag, reason.message], ["Internal", "Internal error"])
      assert.deepStrictEqual(notes, [`${kind} Internal`])
      // calls that are rejected before their handler keep their status
      assert.strictEqual(yield* RawCall.send(target, { path: "/no/no", body: frame([]) }), "12")
      assert.strictEqual((yield* Effect.flip(call(kind, "hello"))).reason._tag, "Internal")
    })
  )

  it.live.each(Outcomes.kinds)("sees that the response to a %s call is above maxResponseSize", (kind) =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const { call } = yield* Outcomes.serve({ observers: [noting(notes)], limits: { maxResponseSize: 100 } })
      const { reason } = yield* Effect.flip(call(kind, "x".repeat(200)))
      assert.strictEqual(reason._tag, "ResourceExhausted")
      assert.match(reason.message, /^Response of \d+ bytes exceeds the limit of 100$/)
      assert.deepStrictEqual(notes, [`${kind} ResourceExhausted`])
    })
  )

  it.live.each(["clientStream", "bidi"] as const)(
    "sees a %s call whose client disconnects between its requests",
    (kind) =>
      Effect.gen(function* () {
        const notes: Array<string> = []
        const { seen, target } = yield* Outcomes.make({ interceptors: [noting(notes)] })
        notes.length = 0
        yield* Effect.scoped(
          Effect.gen(function* () {
            const held = yield* RawCall.hold(Number(target.split(":")[1]), `/${EchoService.name}/${methods[kind]}`)
            yield* held.send
          })
        )
        yield* seen
        assert.deepStrictEqual(notes, [`${kind} Cancelled`])
      })
  )

  it.live("sees a call that is shed", () =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const { client, run, seen, started } = yield* Outcomes.make({
        interceptors: [noting(notes)],
        limits: { maxConcurrency: 1, maxQueue: 0 }
      })
      notes.length = 0
      const first = yield* Effect.forkChild(client.EchoOnce({ text: "hang" }))
      yield* started
      const { reason } = yield* Effect.flip(client.EchoOnce({ text: "hello" }))
      assert.strictEqual(reason._tag, "ResourceExhausted")
      yield* seen
      yield* Fiber.interrupt(first)
      yield* seen
      yield* run("unary", "success")
      assert.deepStrictEqual(notes, ["unary ResourceExhausted rejected", "unary Cancelled", "unary OK"])
    })
  )
})

/** The caller of a call. */
class CurrentUser extends Context.Service<CurrentUser, { readonly name: string }>()("test/layers/CurrentUser") {}

describe("an interceptor that provides a service", () => {
  /** Takes the name of the caller from its token. */
  const authenticated = GrpcInterceptor.provide(CurrentUser, ({ metadata }) => {
    const [token] = metadata.get("authorization")
    return typeof token === "string" && token.startsWith("Bearer ")
      ? Effect.succeed({ name: token.slice("Bearer ".length) })
      : Effect.fail(Status.unauthenticated("Token missing"))
  })

  const Greeter = GrpcServer.serve(
    GreeterService,
    Effect.succeed({
      Greet: () => Effect.map(CurrentUser, ({ name }) => ({ text: `Hello, ${name}` })),
      GreetInAll: () => Stream.fromEffect(Effect.map(CurrentUser, ({ name }) => ({ text: `Hola, ${name}` })))
    }),
    {},
    { interceptors: [authenticated] }
  )

  const metadata = new Metadata()
  metadata.set("authorization", "Bearer Ada")

  it.live("provides it to the handlers of its own service only", () =>
    Effect.gen(function* () {
      const greeter = yield* Echo.clientOf(GreeterService)
      assert.strictEqual((yield* greeter.Greet({}, { metadata })).text, "Hello, Ada")
      const [first] = yield* Stream.runCollect(greeter.GreetInAll({}, { metadata }))
      assert.strictEqual(first?.text, "Hola, Ada")
      const { reason } = yield* Effect.flip(greeter.Greet({}))
      assert.deepStrictEqual([reason._tag, reason.message], ["Unauthenticated", "Token missing"])
      const echo = yield* Echo.client
      assert.strictEqual((yield* echo.Echo({ text: "no token" })).text, "no token")
    }).pipe(Effect.provide(Echo.serve({}, { beside: Greeter })))
  )

  it.live("does not run for a call that is rejected before its handler", () =>
    Effect.gen(function* () {
      const malformed = { path: `/${GreeterService.name}/Greet`, body: frame([0xff, 0xff, 0xff]) }
      assert.strictEqual(yield* RawCall.send(yield* Echo.target, malformed), "13")
    }).pipe(Effect.provide(Echo.serve({}, { beside: Greeter })))
  )
})

describe("a client interceptor", () => {
  interface Interceptors {
    readonly interceptors: ReadonlyArray<ClientInterceptor>
    readonly attemptInterceptors: ReadonlyArray<ClientAttemptInterceptor>
  }

  /** Records the statuses of calls and attempts in `notes`, with `around`. */
  const noting = (notes: Array<string>): Interceptors => ({
    interceptors: [
      {
        around: (effect, { method }) =>
          Effect.onExit(effect, (exit) =>
            Effect.sync(() => void notes.push(`call ${method} ${GrpcInterceptor.clientStatusOf(exit)?._tag ?? "OK"}`))
          )
      }
    ],
    attemptInterceptors: [
      {
        around: (effect, { attempt }) =>
          Effect.onExit(effect, (exit) =>
            Effect.sync(
              () => void notes.push(`attempt ${attempt} ${GrpcInterceptor.clientStatusOf(exit)?._tag ?? "OK"}`)
            )
          )
      }
    ]
  })

  /** The same as `noting`, with hooks. */
  const observing = (notes: Array<string>): Interceptors => ({
    interceptors: [{ onEnd: ({ method }, _exit, status) => void notes.push(`call ${method} ${status?._tag ?? "OK"}`) }],
    attemptInterceptors: [
      { onEnd: ({ attempt }, _exit, status) => void notes.push(`attempt ${attempt} ${status?._tag ?? "OK"}`) }
    ]
  })

  describe.each([
    ["around", noting],
    ["hooks", observing]
  ] as const)("with %s", (_, interceptors) => {
    it.live.each(Outcomes.cases)("sees $outcome of a $kind call", ({ code, kind, outcome }) =>
      Effect.gen(function* () {
        const notes: Array<string> = []
        const { run } = yield* Outcomes.make({ client: interceptors(notes) })
        notes.length = 0
        yield* run(kind, outcome)
        assert.deepStrictEqual(notes, [`attempt 1 ${code}`, `call ${methods[kind]} ${code}`])
      })
    )
  })

  it.live.each(Outcomes.kinds)("with hooks keeps its place among those with around, for a %s call", (kind) =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const hooks = (what: string, name: string) => ({
        onStart: (_: unknown, context: Context.Context<never>) => {
          notes.push(`${what} ${name} within ${Context.get(context, Name)}`)
          return Context.add(context, Name, name)
        },
        onEnd: () => Effect.sync(() => void notes.push(`${what} ${name} has ended`))
      })
      const wrapper = (what: string, name: string) => ({
        around: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.suspend(() => {
            notes.push(`${what} ${name} around`)
            return Effect.onExit(effect, () => Effect.sync(() => void notes.push(`${what} ${name} is over`)))
          })
      })
      // the third one has both hooks and around
      const list = (what: string) => [
        hooks(what, "a"),
        wrapper(what, "b"),
        { ...wrapper(what, "c"), ...hooks(what, "c") },
        hooks(what, "d")
      ]
      const { call } = yield* Outcomes.serve({
        client: { interceptors: list("call"), attemptInterceptors: list("attempt") }
      })
      // drops the notes of the channel's own calls
      notes.length = 0
      yield* call(kind, "hello")
      const told = (what: string, outer: string) => [
        `${what} a within ${outer}`,
        `${what} b around`,
        `${what} c within a`,
        `${what} c around`,
        `${what} d within c`
      ]
      const ended = (what: string) => [
        `${what} d has ended`,
        `${what} c is over`,
        `${what} c has ended`,
        `${what} b is over`,
        `${what} a has ended`
      ]
      assert.deepStrictEqual(notes, [
        ...told("call", "nobody"),
        ...told("attempt", "d"),
        ...ended("attempt"),
        ...ended("call")
      ])
    })
  )

  it.live.each(Outcomes.kinds)("does not affect a %s call when a hook throws or fails, which is logged", (kind) => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const notes: Array<string> = []
      const bugs = [{ onStart: throwing }, { onEnd: throwing }, { onEnd: () => Effect.die(new Error("a bug")) }]
      const { attemptInterceptors, interceptors } = observing(notes)
      const { call } = yield* Outcomes.serve({
        client: {
          policy: { retry: RetryPolicy.never },
          interceptors: [...interceptors, ...bugs],
          attemptInterceptors: [...attemptInterceptors, ...bugs]
        }
      })
      logs.clear()
      assert.deepStrictEqual(yield* call(kind, "hello"), ["hello"])
      assert.deepStrictEqual(notes, ["attempt 1 OK", `call ${methods[kind]} OK`])
      assert.deepStrictEqual(
        exceptionsIn(logs),
        Array.from({ length: 6 }, () => "a bug")
      )
    }).pipe(Effect.scoped, Effect.provide(logs.layer))
  })

  it.live.each(["unary", "serverStream"] as const)("sees each attempt of a %s call", (kind) =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const peers: Array<string | undefined> = []
      let failures = 2
      const { call, target } = yield* Outcomes.serve({
        inputs: {
          flaky: Effect.suspend(() => (failures-- > 0 ? Effect.fail(Status.unavailable("not yet")) : Effect.void))
        },
        client: {
          policy: { retry: RetryPolicy.defaults },
          interceptors: noting(notes).interceptors,
          attemptInterceptors: [...noting(notes).attemptInterceptors, { onEnd: ({ peer }) => void peers.push(peer()) }]
        }
      })
      assert.deepStrictEqual(yield* call(kind, "flaky"), ["flaky"])
      assert.deepStrictEqual(notes, [
        "attempt 1 Unavailable",
        "attempt 2 Unavailable",
        "attempt 3 OK",
        `call ${methods[kind]} OK`
      ])
      assert.deepStrictEqual(peers, [target, target, target])
    })
  )

  it.live.each(Outcomes.kinds)("can add metadata to a %s call", (kind) =>
    Effect.gen(function* () {
      const got: Array<unknown> = []
      const authorize: ClientInterceptor = { onStart: ({ metadata }) => metadata.set("authorization", "it is me") }
      const { call } = yield* Outcomes.serve({
        client: { interceptors: [authorize] },
        inputs: {
          hello: Effect.map(GrpcCall, ({ metadata }) => void got.push(...metadata.get("authorization")))
        }
      })
      yield* call(kind, "hello")
      assert.deepStrictEqual(got, ["it is me"])
    })
  )

  it.live.each(Outcomes.kinds)("can fail a %s call before it is sent", (kind) =>
    Effect.gen(function* () {
      let handled = 0
      const metadata = new Metadata()
      metadata.set("forbidden", "yes")
      const forbid: ClientAttemptInterceptor = {
        around: (attempt, { metadata }) =>
          metadata.get("forbidden").length === 0 ? attempt : Effect.fail(Status.failedPrecondition("not now"))
      }
      const { call } = yield* Outcomes.serve({
        client: { attemptInterceptors: [forbid] },
        inputs: { hello: Effect.sync(() => void handled++) }
      })
      const { reason } = yield* Effect.flip(call(kind, "hello", { metadata }))
      assert.deepStrictEqual([reason._tag, reason.message], ["FailedPrecondition", "not now"])
      assert.strictEqual(handled, 0)
    })
  )

  it.live("wraps a stream until its consumer stops reading", () =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const { client, seen } = yield* Outcomes.make({ client: noting(notes) })
      notes.length = 0
      const first = yield* client.Chat(Stream.concat(Stream.make({ text: "hello" }), Stream.never)).pipe(
        Stream.tap(() => Effect.sync(() => void notes.push("message"))),
        Stream.take(1),
        Stream.runCollect
      )
      assert.strictEqual(first.length, 1)
      yield* seen
      assert.deepStrictEqual(notes, ["message", "attempt 1 Cancelled", "call Chat Cancelled"])
    })
  )
})

it.live("a stream of responses is read in the context that interceptors provide", () =>
  Effect.gen(function* () {
    const inner = yield* Deferred.make<string>()
    const { client } = yield* Outcomes.serve({
      client: {
        interceptors: [{ around: (call) => Effect.withSpan(call, "outer") }],
        attemptInterceptors: [
          {
            around: (attempt) =>
              Effect.flatMap(Effect.orDie(Effect.currentSpan), ({ name }) =>
                Effect.andThen(Deferred.succeed(inner, name), attempt)
              )
          }
        ]
      }
    })
    yield* Stream.runDrain(client.Chat(Stream.make({ text: "hello" })))
    assert.strictEqual(yield* Deferred.await(inner), "outer")
  })
)

it.live.each(Outcomes.kinds)(
  "an interceptor of attempts that takes time does not move the deadline of a %s call",
  (kind) =>
    Effect.gen(function* () {
      const { call } = yield* Outcomes.serve({
        inputs: { hang: Effect.never },
        client: { attemptInterceptors: [{ around: (attempt) => Effect.delay(attempt, "800 millis") }] }
      })
      const deadline = performance.now() + 1_000
      yield* Effect.flip(call(kind, "hang", { timeout: 1_000 }))
      // it would end later by the time that the interceptor takes
      assert.isBelow(performance.now() - deadline, 700)
    })
)
