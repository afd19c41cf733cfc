import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Config,
  ConfigProvider,
  Context,
  Effect,
  Layer,
  LogLevel,
  Option,
  Redacted,
  References,
  Schema,
  type Scope,
  Tracer
} from "effect"
import { vi } from "vitest"

import * as Setting from "../../../src/layers/config/Setting.ts"
import * as NodeGrpcChannel from "../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import * as RetryPolicy from "../../../src/layers/grpc/RetryPolicy.ts"
import * as Logging from "../../../src/layers/telemetry/Logging.ts"
import * as LogOutput from "../../../src/layers/telemetry/LogOutput.ts"
import * as OtlpSettings from "../../../src/layers/telemetry/OtlpSettings.ts"
import * as Telemetry from "../../../src/layers/telemetry/Telemetry.ts"
import { EchoService } from "../../../src/layers/testing/EchoServer.ts"
import * as Echo from "../grpc/Echo.ts"
import * as Outcomes from "../grpc/Outcomes.ts"
import * as Tls from "../tls/Tls.ts"
import * as Logs from "./Logs.ts"
import * as Spans from "./Spans.ts"

/** Runs a test with a recorder of log lines. */
const logging = <A, E>(
  settings: Partial<Logging.Settings>,
  test: (logs: Logs.Recorder) => Effect.Effect<A, E, Scope.Scope>
): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    const logs = Logs.recorder(settings)
    return test(logs).pipe(Effect.scoped, Effect.provide(logs.layer))
  })

const env = (env: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromEnv({ env }))

/** Calls the process' listeners of SIGUSR2. */
const signal = Effect.sync(() => process.emit("SIGUSR2"))

/** Runs an effect while stdout claims to be a terminal, or not. */
const withTerminal = <A, E>(isTTY: boolean, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    const { stdout } = process
    const original = Object.getOwnPropertyDescriptor(stdout, "isTTY")
    return Effect.acquireUseRelease(
      Effect.sync(() => Object.defineProperty(stdout, "isTTY", { value: isTTY, configurable: true })),
      () => effect,
      () =>
        Effect.sync(() => {
          if (original === undefined) Reflect.deleteProperty(stdout, "isTTY")
          else Object.defineProperty(stdout, "isTTY", original)
        })
    )
  })

const secret = "zzz9-secret"
const redacted = Redacted.make(secret)

class Refused extends Schema.TaggedError<Refused>()("Refused", {
  password: Schema.Redacted(Schema.String),
  answer: Schema.Unknown
}) {}

class RefusedWithMessage extends Schema.TaggedError<RefusedWithMessage>()("RefusedWithMessage", {
  message: Schema.String,
  password: Schema.Redacted(Schema.String)
}) {}

describe("a JSON line", () => {
  it.live("is one object for any message", () =>
    logging({}, (logs) =>
      Effect.gen(function* () {
        const circular: Record<string, unknown> = {}
        circular["self"] = circular
        const messages = ["two\nlines", 'a "quote"', "\u2028\u0000", { some: [1, undefined, 2n] }, circular, undefined]
        for (const message of messages) yield* Effect.logInfo(message)
        yield* Effect.logInfo("several", 1, { two: 2 })
        yield* Effect.logError("wrong", Cause.die(new Error("two\nlines")))
        assert.strictEqual(logs.text().split("\n").length - 1, messages.length + 2)
        const lines = logs.lines()
        assert.deepStrictEqual(
          lines.slice(0, 3).map(({ message }) => message),
          messages.slice(0, 3)
        )
        assert.deepStrictEqual(lines.at(-2)?.message, ["several", 1, { two: 2 }])
        assert.match(lines.at(-1)?.cause ?? "", /^Error: two\nlines\n {4}at /)
        for (const line of lines) {
          assert.include(["INFO", "ERROR"], line.level)
          assert.isFalse(Number.isNaN(Date.parse(line.timestamp)))
        }
      })
    )
  )

  it.live("has the name and version of the service", () =>
    logging({}, (logs) =>
      Effect.gen(function* () {
        const says = (name: string) =>
          Layer.effectDiscard(Effect.logInfo(`this is ${name}`)).pipe(Telemetry.provide({ name, version: "1.2.3" }))
        yield* Effect.scoped(Layer.build(Layer.merge(says("books"), says("shelves"))))
        const lines = logs.lines()
        assert.sameDeepMembers(
          lines.map(({ annotations, message }) => [message, annotations]),
          ["books", "shelves"].map((name) => [`this is ${name}`, { service: name, version: "1.2.3" }])
        )
      }).pipe(Effect.provide(env({})))
    )
  )

  it.live("has the ids of the current trace and span", () =>
    logging({}, (logs) =>
      Effect.gen(function* () {
        const { spans, tracer } = Spans.recorder()
        yield* Effect.logInfo("outside")
        yield* Effect.logInfo("inside").pipe(
          Effect.annotateLogs("more", "this"),
          Effect.withSpan("inner"),
          Effect.withSpan("outer"),
          Effect.provideService(Tracer.Tracer, tracer)
        )
        const inner = spans.find(({ name }) => name === "inner")
        assert(inner !== undefined)
        assert.deepStrictEqual(
          logs.lines().map(({ annotations }) => annotations),
          [{}, { trace_id: inner.traceId, span_id: inner.spanId, more: "this" }]
        )
      })
    )
  )

  it.live("has the address of the peer within a gRPC call", () =>
    logging({}, (logs) =>
      Effect.gen(function* () {
        const { call } = yield* Outcomes.serve({
          inputs: { hello: Effect.logInfo("in a handler") },
          client: { policy: { retry: RetryPolicy.never } }
        })
        yield* call("unary", "hello")
        const [line, ...others] = logs.lines().filter(({ message }) => message === "in a handler")
        assert.deepStrictEqual(others, [])
        const { peer, ...annotations } = line?.annotations ?? {}
        assert.match(String(peer), /^127\.0\.0\.1:\d+$/)
        assert.deepStrictEqual(annotations, {})
      })
    )
  )

  it.live("has the names in the peer's certificate within a gRPC call over mutual TLS", () =>
    logging({}, (logs) =>
      Effect.gen(function* () {
        const authority = yield* Tls.makeAuthority()
        const { watched: certificates } = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
        const context = yield* Layer.build(
          Echo.serve(
            { Echo: (request) => Effect.as(Effect.logInfo("in a handler"), { text: request.text, items: [] }) },
            { tls: { certificates } }
          )
        )
        const names = ["DNS:frontend", "URI:spiffe://shop/frontend"]
        const { watched } = yield* Tls.watch(yield* Tls.clientCertificate(authority, { names }), authority.cert)
        const { port } = yield* Context.get(context, GrpcServer.GrpcServer).address
        const channel = yield* Layer.build(
          NodeGrpcChannel.layer({
            target: `127.0.0.1:${port}`,
            tls: { certificates: watched, serverName: "localhost" }
          })
        )
        const client = yield* GrpcClient.make(Echo.EchoService).pipe(
          Effect.provideContext(Context.merge(context, channel))
        )
        yield* client.Echo({ text: "hello" })
        const line = logs.lines().find(({ message }) => message === "in a handler")
        assert.strictEqual(line?.annotations["peerNames"], names.join(", "))
      })
    )
  )
})

it.live("a pretty line has the same annotations as a JSON line", () =>
  logging({ format: "pretty" }, (logs) =>
    Effect.gen(function* () {
      const { spans, tracer } = Spans.recorder()
      const die = Effect.suspend(() => Effect.die(new Error("a bug")))
      yield* Outcomes.serve({ inputs: { die } }).pipe(
        Effect.annotateLogs({ service: "books", version: "1.2.3" }),
        Effect.flatMap(({ call }) => Effect.flip(call("unary", "die"))),
        Effect.provideService(Tracer.Tracer, tracer)
      )
      const span = spans.find(({ kind }) => kind === "server")
      assert(span !== undefined)
      // the line and the indented lines below it
      const [line] = /^.* ERROR .*\n(?: +.*\n)*/m.exec(logs.text()) ?? []
      assert(line !== undefined)
      assert.match(line, /^\[.*\] ERROR \(#\d+\): Unexpected error in a gRPC handler\n/)
      assert.match(line, /^ +Error: a bug\n +at .*Logging\.test\.ts:\d+:\d+/m)
      for (const fact of [
        /service: books/,
        /version: 1\.2\.3/,
        new RegExp(`trace_id: ${span.traceId}`),
        new RegExp(`span_id: ${span.spanId}`),
        /peer: 127\.0\.0\.1:\d+/,
        new RegExp(`method: ${EchoService.name}/Echo`),
        /code: Internal/,
        /requestId: [\da-f-]{36}/
      ]) {
        assert.match(line, fact)
      }
    })
  )
)

describe.each(["json", "pretty"] as const)("a %s line does not contain a secret", (format) => {
  const refused = new Refused({ password: redacted, answer: { was: redacted } })

  it.live.each([
    { what: "in an annotation", log: Effect.annotateLogs(Effect.logInfo("here"), "password", redacted) },
    {
      what: "inside an annotation",
      log: Effect.annotateLogs(Effect.logInfo("here"), { user: { passwords: [redacted, { last: redacted }] } })
    },
    { what: "as the message", log: Effect.logInfo(redacted) },
    { what: "in a further argument", log: Effect.logInfo("here", redacted, { password: redacted }) },
    { what: "in an interpolated message", log: Effect.logInfo(`here: ${redacted}`) },
    { what: "in a Map and a Set", log: Effect.logInfo("here", new Map([["password", redacted]]), new Set([redacted])) },
    { what: "in a logged error", log: Effect.logError("here", refused) },
    { what: "in a failure", log: Effect.logError("here", Cause.fail(refused)) },
    { what: "in a defect", log: Effect.logError("here", Cause.die(refused)) },
    {
      what: "in the cause of an error",
      log: Effect.logError("here", Cause.die(new Error("wrong", { cause: refused })))
    },
    {
      what: "as the cause of an error",
      log: Effect.logError("here", Cause.die(new Error("wrong", { cause: redacted })))
    },
    { what: "as a defect", log: Effect.logError("here", Cause.die(redacted)) },
    { what: "inside a plain object that is a defect", log: Effect.logError("here", Cause.die({ password: redacted })) },
    {
      what: "in the message of an error",
      log: Effect.logError(
        "here",
        Cause.fail(new RefusedWithMessage({ message: `not ${redacted}`, password: redacted }))
      )
    }
  ])("$what", ({ log }) =>
    logging({ format }, (logs) =>
      Effect.gen(function* () {
        yield* log
        assert.notInclude(logs.text(), secret)
        // a line has been written
        assert.match(logs.text(), /here|redacted/)
      })
    )
  )

  it.live.each([
    { what: "a number", config: Config.schema(Schema.RedactedFromValue(Schema.FiniteFromString), "PASSWORD") },
    {
      what: "a word",
      config: Setting.optional("PASSWORD", {
        description: "A password.",
        unset: "none",
        expected: "a better one",
        parse: () => Option.none(),
        isSecret: () => true
      })
    },
    {
      what: "a list of headers",
      config: OtlpSettings.settings,
      variables: { OTEL_EXPORTER_OTLP_HEADERS: `authorization=%zz, ${secret}` }
    }
  ])("in a setting that is not $what", ({ config, variables }) =>
    logging({ format }, (logs) =>
      Effect.gen(function* () {
        const { cause } = yield* Effect.flip(
          Effect.mapError(
            (config as Config.Config<unknown>).parse(
              ConfigProvider.fromEnv({ env: variables ?? { PASSWORD: secret } })
            ),
            (error) => ({ cause: Cause.fail(error) })
          )
        )
        yield* Effect.logError("here", cause)
        assert.notInclude(logs.text(), secret)
        assert.include(logs.text(), variables === undefined ? "PASSWORD" : "OTEL_EXPORTER_OTLP_HEADERS")
      })
    )
  )
})

describe("the level", () => {
  const severities = ["Trace", "Debug", "Info", "Warn", "Error", "Fatal"] as const

  /** Whether lines of a level are logged. */
  const isEnabled = (level: LogLevel.LogLevel) =>
    Effect.map(Effect.context<never>(), (context) => Logging.isEnabled(level, context))

  it.live.each(LogLevel.values)("%s logs its own and more severe levels", (level) =>
    logging({ level }, (logs) =>
      Effect.gen(function* () {
        const expected = severities.filter((severity) => LogLevel.isGreaterThanOrEqualTo(severity, level))
        for (const severity of severities) {
          yield* Effect.logWithLevel(severity)(severity)
          assert.strictEqual(yield* isEnabled(severity), expected.includes(severity), severity)
        }
        assert.deepStrictEqual(
          logs.lines().map(({ level, message }) => [level, message]),
          expected.map((severity) => [severity.toUpperCase(), severity])
        )
      })
    )
  )

  it.live("is the minimum level of the fiber without the layer", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual([yield* isEnabled("Info"), yield* isEnabled("Debug")], [true, false])
      const enabled = Effect.all([isEnabled("Error"), isEnabled("Warn")])
      assert.deepStrictEqual(yield* Effect.provideService(enabled, References.MinimumLogLevel, "Error"), [true, false])
    })
  )

  /** Logs a line at each level, and returns the least severe one that is written. */
  const lowestLevel = (logs: Logs.Recorder) =>
    Effect.gen(function* () {
      logs.clear()
      for (const severity of severities) yield* Effect.logWithLevel(severity)(severity)
      const enabled = yield* Effect.filter(severities, isEnabled)
      const written = logs.lines().map(({ message }) => message)
      assert.deepStrictEqual(written, enabled)
      return enabled.at(0)
    })

  it.live.each([
    { level: "Info", on: "Debug", off: "Info" },
    { level: "Warn", on: "Debug", off: "Warn" },
    { level: "None", on: "Debug", off: undefined },
    // a process that starts verbose becomes quiet at the first signal
    { level: "Debug", on: "Debug", off: "Info" },
    { level: "Trace", on: "Trace", off: "Info" }
  ] as const)("$level is toggled by SIGUSR2", ({ level, off, on }) =>
    logging({ level }, (logs) =>
      Effect.gen(function* () {
        const isVerbose = level === on
        assert.strictEqual(yield* lowestLevel(logs), isVerbose ? on : off)
        yield* signal
        assert.strictEqual(yield* lowestLevel(logs), isVerbose ? off : on)
        yield* signal
        assert.strictEqual(yield* lowestLevel(logs), isVerbose ? on : off)
      })
    )
  )

  it.live("is toggled for fibers that are running already", () =>
    logging({ level: "Info" }, (logs) =>
      Effect.gen(function* () {
        const { call } = yield* Outcomes.serve()
        const count = () => logs.access().length
        yield* call("unary", "hello")
        assert.strictEqual(count(), 0)
        yield* signal
        yield* call("unary", "hello")
        assert.strictEqual(count(), 1)
        yield* signal
        yield* call("unary", "hello")
        assert.strictEqual(count(), 1)
      })
    )
  )

  it.live("is logged when it is toggled, with the annotations of the service", () =>
    Effect.gen(function* () {
      const logs = Logs.recorder({ level: "Info" })
      yield* Effect.gen(function* () {
        yield* signal
        yield* signal
      }).pipe(Effect.provide(logs.layer), Effect.annotateLogs({ service: "books", version: "1.2.3" }))
      assert.deepStrictEqual(
        logs.lines().map(({ annotations, level, message }) => [level, message, annotations]),
        ["on", "off"].map((state) => ["INFO", `Debug logging is ${state}`, { service: "books", version: "1.2.3" }])
      )
    })
  )

  it.live("is not toggled after the layer has closed", () =>
    Effect.gen(function* () {
      const before = process.listenerCount("SIGUSR2")
      yield* logging({}, () => Effect.sync(() => assert.strictEqual(process.listenerCount("SIGUSR2"), before + 1)))
      assert.strictEqual(process.listenerCount("SIGUSR2"), before)
    })
  )
})

describe("the settings", () => {
  const read = (env: Record<string, string>) => Logging.settings.parse(ConfigProvider.fromEnv({ env }))

  it.live.each([
    { isTTY: true, format: "pretty" },
    { isTTY: false, format: "json" }
  ] as const)("are Info and $format by default if stdout being a terminal is $isTTY", ({ format, isTTY }) =>
    withTerminal(
      isTTY,
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* read({}), { level: "Info", format })
        assert.deepStrictEqual(yield* read({ LOG_LEVEL: "", LOG_FORMAT: "" }), { level: "Info", format })
      })
    )
  )

  it.live.each(LogLevel.values)("accept %s in upper and lower case", (level) =>
    Effect.gen(function* () {
      for (const text of [level, level.toLowerCase(), level.toUpperCase()]) {
        assert.strictEqual((yield* read({ LOG_LEVEL: text })).level, level)
      }
    })
  )

  it.live("accept both formats", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* read({ LOG_FORMAT: "json" })).format, "json")
      assert.strictEqual((yield* read({ LOG_FORMAT: "Pretty" })).format, "pretty")
    })
  )

  it.live.each([
    {
      env: { LOG_LEVEL: "loud" },
      message: 'LOG_LEVEL="loud": expected one of All, Fatal, Error, Warn, Info, Debug, Trace, None'
    },
    {
      env: { LOG_LEVEL: "two\nlines" },
      message: 'LOG_LEVEL="two\\nlines": expected one of All, Fatal, Error, Warn, Info, Debug, Trace, None'
    },
    { env: { LOG_FORMAT: "xml" }, message: 'LOG_FORMAT="xml": expected one of pretty, json' }
  ])("are refused with a one-line message: $message", ({ env: variables, message }) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* Effect.flip(read(variables))).message, message)
      // the layer fails with the same message
      const error = yield* Effect.flip(Effect.scoped(Layer.build(Logging.layerConfig))).pipe(
        Effect.provide(env(variables))
      )
      assert.strictEqual(error.message, message)
    })
  )

  it.live("apply to the lines on stdout", () =>
    Effect.gen(function* () {
      const written = vi.spyOn(LogOutput.stdout(), "write").mockReturnValue(undefined)
      yield* Effect.addFinalizer(() => Effect.sync(() => written.mockRestore()))
      yield* Effect.gen(function* () {
        yield* Effect.logInfo("not this")
        yield* Effect.logWarning("this")
        yield* Effect.logWarning("and this")
      }).pipe(Effect.provide(Layer.provide(Logging.layerConfig, env({ LOG_LEVEL: "warn", LOG_FORMAT: "json" }))))
      const lines = written.mock.calls.map(([line]) => JSON.parse(String(line)) as Logs.Line)
      assert.deepStrictEqual(
        lines.map(({ message }) => message),
        ["this", "and this"]
      )
    }).pipe(Effect.scoped)
  )

  it.live("apply to the line that reports dropped lines", () =>
    Effect.gen(function* () {
      const outputs = [LogOutput.stdout(), LogOutput.stderr()] as const
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          for (const output of outputs) output.describeDropped = undefined
        })
      )
      yield* Layer.build(Logging.layerConfig).pipe(Effect.provide(env({ LOG_FORMAT: "json" })))
      const lines = outputs.map(({ describeDropped }) => describeDropped!(3))
      for (const [at, line] of lines.entries()) {
        assert.match(line, /\n$/)
        const { level, message } = JSON.parse(line) as Logs.Line
        const stream = ["stdout", "stderr"][at]
        assert.deepStrictEqual(
          [level, message],
          ["WARN", `3 log lines dropped: ${stream} was not read or written in time`]
        )
      }
      yield* Layer.build(Logging.layerConfig).pipe(Effect.provide(env({ LOG_FORMAT: "pretty" })))
      assert.match(outputs[0].describeDropped!(3), /^\[.*\] WARN .*: 3 log lines dropped: stdout .*\n$/)
    }).pipe(Effect.scoped)
  )
})

describe.each(["json", "pretty"] as const)("a %s line", (format) => {
  it.live("has at most about 8 kB for any input", () =>
    logging({ format }, (logs) =>
      Effect.gen(function* () {
        const controls = "\u0001".repeat(15_000)
        yield* Effect.logInfo("here", "x".repeat(15_000), { nested: ["y".repeat(15_000)] }, 7).pipe(
          Effect.annotateLogs({
            method: "m".repeat(15_000),
            ["k".repeat(15_000)]: 1,
            controls,
            list: ["z".repeat(15_000)]
          })
        )
        yield* Effect.logError("wrong", Cause.die(new Error("e".repeat(50_000))))
        yield* Effect.logInfo("many").pipe(
          Effect.annotateLogs(Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`key${index}`, "v"])))
        )
        const lines = format === "json" ? logs.text().split("\n") : logs.text().split(/^(?=\[)/m)
        assert.strictEqual(lines.filter((line) => line !== "").length, 3)
        for (const line of lines) assert.isAtMost(Buffer.byteLength(line), 8300)
        assert.match(lines[0]!, /m{100,1000}\.\.\. \(truncated, \d+ more characters\)/)
        assert.match(lines[1]!, /e{5000,6000}\.\.\. \(truncated, \d+ more characters\)/)
        assert.include(lines[2]!, "truncated")
        if (format === "json") assert.strictEqual(logs.lines().length, 3)
      })
    )
  )

  it.live("has at most 1,000 characters of a field, also of a nested value and next to a cause", () =>
    logging({ format }, (logs) =>
      Effect.gen(function* () {
        yield* Effect.annotateLogs(Effect.logInfo("here"), { method: "m".repeat(5_000) })
        assert.match(logs.text(), /[^m]m{1000}\.\.\. \(truncated, 4000 more characters\)/)
        logs.clear()
        yield* Effect.logError("here", { nested: "n".repeat(5_000) }, Cause.die(new Error("a bug")))
        assert.match(logs.text(), /[^n]n{900,1200}\.\.\. \(truncated, \d+ more characters\)/)
        assert.include(logs.text(), "a bug")
      })
    )
  )

  it.live("is not truncated at the usual length", () =>
    logging({ format }, (logs) =>
      Effect.gen(function* () {
        yield* Effect.annotateLogs(Effect.logInfo("m".repeat(1000)), { value: "v".repeat(1000) })
        assert.notInclude(logs.text(), "truncated")
        assert.include(logs.text(), "m".repeat(1000))
        assert.include(logs.text(), "v".repeat(1000))
      })
    )
  )

  it.live("has no control characters, not even in its cause", () =>
    logging({ format }, (logs) =>
      Effect.gen(function* () {
        yield* Effect.logError("wrong\u001b[2J", { more: 1 }, Cause.die(new Error("\u001b[2J\u0007 gone"))).pipe(
          Effect.annotateLogs("key\u001b[2J", 1)
        )
        assert.notMatch(logs.text(), /[^\P{Cc}\n]/u)
        assert.include(logs.text(), "\\u001b[2J\\u0007 gone")
        assert.include(logs.text(), "key\\u001b[2J")
      })
    )
  )
})

it.live.each([true, false])("a truncated pretty line resets its colours only on a terminal: %s", (isTTY) =>
  withTerminal(
    isTTY,
    logging({ format: "pretty" }, (logs) =>
      Effect.gen(function* () {
        const many = Array.from({ length: 5_000 }, (_, index) => [`key${index}`, index])
        yield* Effect.annotateLogs(Effect.logInfo("here"), Object.fromEntries(many))
        assert.isTrue(logs.text().endsWith(isTTY ? " more characters)\u001b[0m\n" : " more characters)\n"))
        assert.strictEqual(logs.text().includes("\u001b"), isTTY)
      })
    )
  )
)
