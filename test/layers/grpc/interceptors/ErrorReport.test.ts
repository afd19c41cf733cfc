/**
 * The reports of unexpected errors by `AccessLog`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Client, credentials, status as Code } from "@grpc/grpc-js"
import { Cause, Deferred, Effect, ErrorReporter, type Scope, Tracer } from "effect"

import * as Status from "../../../../src/layers/grpc/Status.ts"
import { EchoService, methods } from "../../../../src/layers/testing/EchoServer.ts"
import * as RawCall from "../../../integration/RawCall.ts"
import * as Logs from "../../telemetry/Logs.ts"
import * as Spans from "../../telemetry/Spans.ts"
import * as Outcomes from "../Outcomes.ts"

/** What an ErrorReporter receives. */
interface Report {
  readonly cause: Cause.Cause<unknown>
  readonly error: Error
  readonly attributes: Readonly<Record<string, unknown>>
  readonly severity: string
  /** The span in which it was reported. */
  readonly span: Tracer.AnySpan | undefined
}

/** Runs a test with a recorder of its error reports. */
const reporting = <A, E>(test: (reports: ReadonlyArray<Report>) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.suspend(() => {
    const reports: Array<Report> = []
    const reporter = ErrorReporter.make(
      ({ attributes, cause, error, fiber, severity }) =>
        void reports.push({ attributes, cause, error, severity, span: fiber.cache.span })
    )
    return test(reports).pipe(Effect.scoped, Effect.provide(ErrorReporter.layer([reporter])))
  })

/** The original error: reporters get a copy of it in `error`. */
const thrown = ({ cause }: Report): unknown => {
  const [reason] = cause.reasons
  return reason !== undefined && Cause.isDieReason(reason) && reason.defect instanceof Error
    ? reason.defect.cause
    : undefined
}

/** The request ID in the status that a client received. */
const idOf = ({ details }: Status.Status) =>
  details.map((detail) => (detail._tag === "RequestInfo" ? detail.requestId : detail._tag)).join(" ")

/** The statuses that are reported if a handler fails with them. */
const unexpected = ["Internal", "Unknown", "DataLoss"]

describe("the error report", () => {
  it.live.each(Outcomes.cases)("contains $outcome of a $kind call only if it is a defect", ({ kind, outcome }) =>
    reporting((reports) =>
      Effect.gen(function* () {
        const { run } = yield* Outcomes.make()
        yield* run(kind, outcome)
        assert.strictEqual(reports.length, outcome === "a defect" ? 1 : 0)
      })
    )
  )

  it.live.each(Outcomes.kinds)("has the cause, attributes and span of a defect in a %s call", (kind) =>
    reporting((reports) =>
      Effect.gen(function* () {
        const { spans, tracer } = Spans.recorder()
        const bug = new TypeError(Outcomes.secret)
        const { call, seen } = yield* Outcomes.make({ inputs: { bug: Effect.die(bug) } }).pipe(
          Effect.provideService(Tracer.Tracer, tracer)
        )
        spans.length = 0
        const { reason } = yield* Effect.flip(call(kind, "bug"))
        yield* seen

        const [report, ...others] = reports
        assert.deepStrictEqual(others, [])
        assert(report !== undefined)
        assert.strictEqual(report.severity, "Error")
        const { peer, ...attributes } = report.attributes
        assert.match(String(peer), /^127\.0\.0\.1:\d+$/)
        assert.deepStrictEqual(attributes, {
          method: `${EchoService.name}/${methods[kind]}`,
          requestId: idOf(reason)
        })
        assert.strictEqual(thrown(report), bug)
        assert.strictEqual(report.error.name, "TypeError")
        assert.strictEqual(report.error.message, Outcomes.secret)
        assert.match(
          report.error.stack ?? "",
          new RegExp(`^TypeError: ${Outcomes.secret}\n    at .*ErrorReport\\.test\\.ts:\\d+:\\d+`)
        )
        assert.instanceOf(report.error.cause, Error)
        assert.strictEqual(report.error.cause.message, Outcomes.secret)
        // reported in the span of the call
        const server = spans.find(({ kind }) => kind === "server")
        assert(server !== undefined)
        assert.strictEqual(report.span, server)
      })
    )
  )

  it.live("has the same request ID as the log", () =>
    reporting((reports) =>
      Effect.suspend(() => {
        const logs = Logs.recorder()
        return Effect.gen(function* () {
          const { run } = yield* Outcomes.make()
          yield* run("unary", "a defect")
          assert.deepStrictEqual(
            reports.map(({ attributes }) => attributes["requestId"]),
            logs.access().flatMap(({ annotations }) => annotations["requestId"] ?? [])
          )
        }).pipe(Effect.scoped, Effect.provide(logs.layer))
      })
    )
  )

  it.live.each(Outcomes.kinds)("contains failures of a %s call with INTERNAL, UNKNOWN and DATA_LOSS only", (kind) =>
    reporting((reports) =>
      Effect.gen(function* () {
        const names = Object.keys(Status.codes)
        const inputs = Object.fromEntries(
          Object.entries(Status.codes).map(([name, code]) => [
            name,
            Effect.suspend(() => Effect.fail(Status.fromCode(code, `it is ${name}`)))
          ])
        )
        const { call, seen } = yield* Outcomes.make({ inputs })
        for (const name of names) {
          const { reason } = yield* Effect.flip(call(kind, name))
          assert.strictEqual(reason._tag, name)
          yield* seen
        }
        assert.sameMembers(
          reports.map(({ error }) => error.message),
          unexpected.map((name) => `it is ${name}`)
        )
        for (const report of reports) {
          assert.strictEqual(report.severity, "Error")
          assert.strictEqual(report.attributes["method"], `${EchoService.name}/${methods[kind]}`)
          // the error of the handler, not the status sent to the client
          assert.propertyVal(thrown(report), "_tag", "Failure")
        }
      })
    )
  )

  it.live("does not contain calls that are rejected before their handler", () =>
    reporting((reports) =>
      Effect.gen(function* () {
        const { seen, target } = yield* Outcomes.make()
        const path = `/${EchoService.name}/Echo`
        const empty = Buffer.alloc(5)
        for (const wrong of [
          { path, body: Buffer.from([0, 0, 0, 0, 1, 0xff]) },
          { path: "/zzz9/zzz9", body: empty },
          { path, body: empty, headers: { "content-type": "text/plain" } },
          { path, body: empty, headers: { "grpc-timeout": "soon" } }
        ]) {
          yield* RawCall.send(target, wrong)
          yield* seen
        }
        assert.deepStrictEqual(reports, [])
      })
    )
  )

  it.live("contains a defect of a handler that is interrupted by a malformed message", () =>
    reporting((reports) =>
      Effect.gen(function* () {
        const begun = yield* Deferred.make<void>()
        const { seen, target } = yield* Outcomes.make({
          inputs: {
            wait: Deferred.succeed(begun, undefined).pipe(
              Effect.andThen(Effect.never),
              Effect.onInterrupt(() => Effect.die(new Error("cleanup")))
            )
          }
        })
        const client = new Client(target, credentials.createInsecure())
        yield* Effect.addFinalizer(() => Effect.sync(() => client.close()))
        const same = (bytes: Buffer) => bytes
        const ended = yield* Deferred.make<Code | undefined>()
        const call = client.makeClientStreamRequest(`/${EchoService.name}/Collect`, same, same, (error) =>
          Deferred.doneUnsafe(ended, Effect.succeed(error?.code))
        )
        call.write(Buffer.from([0x0a, 4, ...Buffer.from("wait")]))
        yield* Deferred.await(begun)
        call.write(Buffer.of(0xff))
        assert.strictEqual(yield* Deferred.await(ended), Code.INTERNAL)
        yield* seen
        assert.deepStrictEqual(
          reports.map(({ error }) => error.message),
          ["cleanup"]
        )
      })
    )
  )

  it.live("contains an error only once that several calls throw", () =>
    reporting((reports) =>
      Effect.gen(function* () {
        const bug = new Error(Outcomes.secret)
        const { call, seen } = yield* Outcomes.make({ inputs: { bug: Effect.die(bug) } })
        for (const kind of Outcomes.kinds) {
          yield* Effect.flip(call(kind, "bug"))
          yield* seen
        }
        assert.deepStrictEqual(reports.map(thrown), [bug])
        assert.strictEqual(reports[0]?.attributes["method"], `${EchoService.name}/Echo`)
      })
    )
  )

  it.live("is sent to all reporters", () =>
    Effect.gen(function* () {
      const received: Array<string> = []
      const reporter = (name: string) =>
        ErrorReporter.make(({ error }) => void received.push(`${name}: ${error.message}`))
      yield* Effect.gen(function* () {
        const { run } = yield* Outcomes.make()
        yield* run("unary", "a defect")
      }).pipe(Effect.scoped, Effect.provide(ErrorReporter.layer([reporter("first"), reporter("second")])))
      assert.deepStrictEqual(received, [`first: ${Outcomes.secret}`, `second: ${Outcomes.secret}`])
    })
  )

  it.live("without a reporter does not affect calls", () =>
    Effect.gen(function* () {
      const { call, run, seen } = yield* Outcomes.make()
      const { reason } = yield* Effect.flip(call("unary", "die"))
      yield* seen
      assert.strictEqual(reason.message, "Internal error")
      yield* run("unary", "success")
    }).pipe(Effect.scoped)
  )

  it.live.each([
    { what: "a string", defect: "it is wrong", message: "it is wrong" },
    { what: "undefined", defect: undefined, message: "Unknown error: undefined" },
    { what: "null", defect: null, message: "Unknown error: null" },
    { what: "a number", defect: 42, message: "42" },
    { what: "an object", defect: { code: 5 }, message: '{"code":5}' },
    { what: "an object without a prototype", defect: Object.create(null) as unknown, message: "{}" },
    { what: "an object with a message", defect: { message: "it is wrong" }, message: "it is wrong" }
  ])("contains defects that are not instances of Error: $what", ({ defect, message }) =>
    reporting((reports) =>
      Effect.gen(function* () {
        const { call, seen } = yield* Outcomes.make({ inputs: { bug: Effect.die(defect) } })
        const { reason } = yield* Effect.flip(call("unary", "bug"))
        yield* seen
        assert.strictEqual(reason.message, "Internal error")
        const [report, ...others] = reports
        assert.deepStrictEqual(others, [])
        assert(report !== undefined)
        assert.strictEqual(report.severity, "Error")
        assert.strictEqual(report.error.message, message)
        assert.strictEqual(report.attributes["requestId"], idOf(reason))
        assert.strictEqual(thrown(report), defect)
      })
    )
  )
})
