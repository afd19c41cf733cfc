import { connect, constants } from "node:http2"

import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Fiber, type Scope, Tracer } from "effect"

import type { Kind } from "../../../../src/layers/grpc/GrpcCall.ts"
import * as Status from "../../../../src/layers/grpc/Status.ts"
import { EchoService, methods } from "../../../../src/layers/testing/EchoServer.ts"
import * as RawCall from "../../../integration/RawCall.ts"
import * as Logs from "../../telemetry/Logs.ts"
import * as Spans from "../../telemetry/Spans.ts"
import * as Outcomes from "../Outcomes.ts"

/** Runs a test with a recorder of its log lines. */
const logging = <A, E>(
  test: (logs: Logs.Recorder) => Effect.Effect<A, E, Scope.Scope>,
  level: "Debug" | "Info" | "Error" = "Debug"
) =>
  Effect.suspend(() => {
    const logs = Logs.recorder({ level })
    return test(logs).pipe(Effect.scoped, Effect.provide(logs.layer))
  })

/** The level of a line: the deadline of a stream of responses is the caller's choice, and no error of the server. */
const levelOf = (code: string, kind: Kind) => {
  if (code === "OK") return "DEBUG"
  if (code === "DeadlineExceeded") return kind === "serverStream" || kind === "bidi" ? "INFO" : "ERROR"
  return code === "Unavailable" || code === "Internal" ? "ERROR" : "INFO"
}

const path = `/${EchoService.name}/Echo`
const frame = (bytes: ReadonlyArray<number>) => Buffer.from([0, 0, 0, 0, bytes.length, ...bytes])

/** Makes a call with one message by node:http2, and succeeds with all headers and trailers of the response, and its body. */
const answerTo = (target: string, kind: Kind, text: string) =>
  Effect.callback<{ readonly headers: ReadonlyMap<string, string>; readonly body: Buffer }>((resume) => {
    const session = connect(`http://${target}`)
    session.on("error", (error) => resume(Effect.die(error)))
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: "POST",
      [constants.HTTP2_HEADER_PATH]: `/${EchoService.name}/${methods[kind]}`,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc",
      [constants.HTTP2_HEADER_TE]: "trailers"
    })
    const headers = new Map<string, string>()
    const body: Array<Buffer> = []
    const onHeaders = (some: object) => {
      for (const [name, value] of Object.entries(some)) headers.set(name, String(value))
    }
    stream.on("response", onHeaders)
    stream.on("trailers", onHeaders)
    stream.on("data", (chunk: Buffer) => void body.push(chunk))
    stream.on("error", (error) => resume(Effect.die(error)))
    stream.on("close", () => {
      session.destroy()
      resume(Effect.succeed({ headers, body: Buffer.concat(body) }))
    })
    // a text, and one number, for which Expand sends one response
    stream.end(frame([0x0a, text.length, ...Buffer.from(text), 0x5a, 0x01, 0x01]))
  })

describe("the access log", () => {
  it.live.each(Outcomes.cases)("has a line for $outcome of a $kind call", ({ code, kind, outcome }) =>
    logging((logs) =>
      Effect.gen(function* () {
        const { run } = yield* Outcomes.make()
        logs.clear()
        yield* run(kind, outcome)

        const [line, ...others] = logs.access()
        assert.deepStrictEqual(others, [])
        assert(line !== undefined)
        assert.strictEqual(line.level, levelOf(code, kind))
        const { durationMs, peer, requestId, ...known } = line.annotations
        assert.deepStrictEqual(known, { method: `${EchoService.name}/${methods[kind]}`, code })
        assert.isAbove(Number(durationMs), outcome === "deadline" ? 100 : 0)
        assert.isBelow(Number(durationMs), 10_000)
        assert.match(String(peer), /^127\.0\.0\.1:\d+$/)
        assert.strictEqual(requestId !== undefined, outcome === "a defect")
        assert.strictEqual(line.cause !== undefined, outcome === "a defect" || outcome === "a server error")
        assert.strictEqual(
          line.message,
          {
            OK: "gRPC call completed",
            NotFound: "gRPC call failed: no such thing",
            Unavailable: "gRPC call failed: down",
            Internal: "Unexpected error in a gRPC handler",
            Cancelled: "gRPC call failed: Cancelled",
            DeadlineExceeded: "gRPC call failed: Deadline exceeded"
          }[code]
        )
      })
    )
  )

  it.live.each(Outcomes.kinds)("has the cause of a defect in a %s call, of which the client gets only an id", (kind) =>
    logging((logs) =>
      Effect.gen(function* () {
        const { call, seen, target } = yield* Outcomes.make()
        logs.clear()
        const { reason } = yield* Effect.flip(call(kind, "die"))
        yield* seen
        const [line] = logs.access()
        assert(line !== undefined)
        // the stack reaches the code that died
        assert.match(line.cause ?? "", new RegExp(`^Error: ${Outcomes.secret}\n    at .*Outcomes\\.ts:\\d+:\\d+`))
        const { requestId } = line.annotations
        assert.match(String(requestId), /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/)
        assert.strictEqual(reason._tag, "Internal")
        assert.strictEqual(reason.message, "Internal error")
        assert.deepStrictEqual<unknown>(reason.details, [{ _tag: "RequestInfo", requestId }])

        // the same by node:http2, to see all that is sent
        logs.clear()
        const { body, headers } = yield* answerTo(target, kind, "die")
        yield* seen
        const [another] = logs.access()
        const id = String(another?.annotations["requestId"])
        assert.notStrictEqual(id, requestId)
        const { ":status": status, "content-type": type, date, ...sent } = Object.fromEntries(headers)
        assert.deepStrictEqual([status, type], ["200", "application/grpc+proto"])
        assert.isFalse(Number.isNaN(Date.parse(date ?? "")))
        const { "grpc-status-details-bin": details = "", ...others } = sent
        delete others["grpc-accept-encoding"]
        delete others["grpc-encoding"]
        assert.deepStrictEqual(others, { "grpc-status": "13", "grpc-message": "Internal%20error" })
        // without its texts, the google.rpc.Status consists of tags and lengths only
        const left = ["Internal error", "type.googleapis.com/google.rpc.RequestInfo", id].reduce(
          (left, text) => left.replace(text, ""),
          Buffer.from(details, "base64").toString("latin1")
        )
        assert.strictEqual(left, "\b\r\x12\x0e\x1aT\n*\x12&\n$")
        assert.strictEqual(body.length, 0)
      })
    )
  )

  it.live("has the defect of a call that also fails", () =>
    logging((logs) =>
      Effect.gen(function* () {
        const { call, seen } = yield* Outcomes.make({
          inputs: {
            both: Effect.failCause(
              Cause.combine(Cause.fail(Status.notFound("no such thing")), Cause.die(new Error(Outcomes.secret)))
            )
          }
        })
        logs.clear()
        const { reason } = yield* Effect.flip(call("unary", "both"))
        yield* seen
        assert.deepStrictEqual([reason._tag, reason.message], ["Internal", "Internal error"])
        const [line, ...others] = logs.access()
        assert.deepStrictEqual(others, [])
        assert.strictEqual(line?.level, "ERROR")
        assert.include(line?.cause, Outcomes.secret)
      })
    )
  )

  it.live.each([
    { outcome: "success", kind: "unary" },
    { outcome: "a defect", kind: "bidi" },
    { outcome: "a client error", kind: "serverStream" },
    { outcome: "a server error", kind: "clientStream" }
  ] as const)("has the ids of the span for $outcome of a $kind call", ({ kind, outcome }) =>
    logging((logs) =>
      Effect.gen(function* () {
        const { named, tracer } = Spans.recorder()
        const { run } = yield* Effect.provideService(Outcomes.make(), Tracer.Tracer, tracer)
        logs.clear()
        yield* run(kind, outcome)
        const spans = named(`${EchoService.name}/${methods[kind]}`).filter((span) => span.kind === "server")
        const span = spans.at(-1)
        assert(span !== undefined)
        assert.deepStrictEqual(
          logs.access().map(({ annotations }) => [annotations["trace_id"], annotations["span_id"]]),
          [[span.traceId, span.spanId]]
        )
      })
    )
  )

  it.live.each([
    { what: "an unknown method", path: `${path}zzz9`, code: "Unimplemented" },
    { what: "an unknown service", path: "/zzz9/zzz9", code: "Unimplemented" },
    { what: "a message that does not decode", body: frame([0xff, 0xff, 0xff]), code: "Internal" },
    { what: "no message", body: Buffer.alloc(0), code: "Unimplemented" },
    { what: "another content type", headers: { "content-type": "text/plain" }, code: "Unknown" },
    { what: "an invalid deadline", headers: { "grpc-timeout": "soon" }, code: "Internal" }
  ])("has one line at Info for a call that is rejected before its handler: $what", (wrong) =>
    logging((logs) =>
      Effect.gen(function* () {
        const { run, seen, target } = yield* Outcomes.make()
        logs.clear()
        yield* RawCall.send(target, { path, body: frame([]), ...wrong })
        yield* seen
        yield* run("unary", "success")
        assert.deepStrictEqual(
          logs
            .access()
            .map(({ annotations, cause, level }) => [level, annotations["method"], annotations["code"], cause]),
          [
            ["INFO", (wrong.path ?? path).slice(1), wrong.code, undefined],
            ["DEBUG", path.slice(1), "OK", undefined]
          ]
        )
      })
    )
  )

  it.live("has one line at Info for a call that is shed", () =>
    logging((logs) =>
      Effect.gen(function* () {
        const { client, seen, started } = yield* Outcomes.make({ limits: { maxConcurrency: 1, maxQueue: 0 } })
        logs.clear()
        const first = yield* Effect.forkChild(client.EchoOnce({ text: "hang" }))
        yield* started
        yield* Effect.flip(client.EchoOnce({ text: "hello" }))
        yield* seen
        assert.deepStrictEqual(
          logs.access().map(({ annotations, level }) => [level, annotations["code"]]),
          [["INFO", "ResourceExhausted"]]
        )
        yield* Fiber.interrupt(first)
        yield* seen
      })
    )
  )

  it.live.each([
    { level: "Info", codes: ["NotFound", "Unavailable", "Internal"] },
    { level: "Error", codes: ["Unavailable", "Internal"] }
  ] as const)("has no lines below the log level $level", ({ codes, level }) =>
    logging(
      (logs) =>
        Effect.gen(function* () {
          const { run } = yield* Outcomes.make()
          for (const outcome of ["success", "a client error", "a server error", "a defect"] as const) {
            yield* run("unary", outcome)
          }
          assert.deepStrictEqual<ReadonlyArray<unknown>>(
            logs.access().map(({ annotations }) => annotations["code"]),
            codes
          )
        }),
      level
    )
  )

  it.live("rate-limits failed calls and counts the suppressed lines, but logs all defects", () =>
    logging((logs) =>
      Effect.gen(function* () {
        const { call, seen } = yield* Outcomes.make({
          // this status does not open the client's circuit breaker
          inputs: { wrong: Effect.fail(Status.dataLoss("wrong")) }
        })
        logs.clear()
        const fail = (text: string, count: number) =>
          Effect.replicateEffect(Effect.andThen(Effect.flip(call("unary", text)), seen), count, {
            concurrency: 50,
            discard: true
          })
        let floods = 0
        const flood = Effect.andThen(fail("missing", 250), fail("wrong", 250))
        // the first summary of suppressed lines may include those of an earlier test
        yield* Effect.repeat(
          Effect.tap(
            flood,
            Effect.sync(() => void floods++)
          ),
          { until: () => logs.omitted("failed gRPC calls") > 0 }
        )
        yield* fail("die", 60)
        const count = (code: string) => logs.access().filter(({ annotations }) => annotations["code"] === code).length
        const logged = () => count("NotFound") + count("DataLoss")
        assert.isAtMost(logged() + logs.omitted("failed gRPC calls"), floods * 500)
        assert.isBelow(logged(), floods * 500)
        assert.strictEqual(count("Internal"), 60)
      })
    )
  )
})
