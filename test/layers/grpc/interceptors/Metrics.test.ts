import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"

import * as RetryPolicy from "../../../../src/layers/grpc/RetryPolicy.ts"
import * as Status from "../../../../src/layers/grpc/Status.ts"
import { prometheusName } from "../../../../src/layers/telemetry/prometheusName.ts"
import { EchoService, methods } from "../../../../src/layers/testing/EchoServer.ts"
import * as RawCall from "../../../integration/RawCall.ts"
import { parse } from "../../../integration/Scrape.ts"
import * as Outcomes from "../Outcomes.ts"

/** Runs a test with a metric registry of its own. */
const withRegistry = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))

/** The metrics as Prometheus would read them now. */
const scrape = Effect.map(PrometheusMetrics.format({ metricNameMapper: prometheusName }), parse)

const types = { unary: "unary", serverStream: "server_stream", clientStream: "client_stream", bidi: "bidi_stream" }

describe("the metrics of a server", () => {
  it.live.each(Outcomes.cases)("count $outcome of a $kind call", ({ code, kind, outcome }) =>
    Effect.gen(function* () {
      const { run } = yield* Outcomes.make()
      const before = yield* scrape
      yield* run(kind, outcome)
      const after = yield* scrape

      const labels = { grpc_type: types[kind], grpc_service: EchoService.name, grpc_method: methods[kind] }
      const rpc = {
        rpc_system_name: "grpc",
        rpc_method: `${EchoService.name}/${methods[kind]}`,
        rpc_status_code: code === "OK" ? "OK" : Status.nameInCapitals[code]
      }
      const grown = (name: string, labels: Record<string, string>) =>
        after.value(name, labels) - before.value(name, labels)
      assert.strictEqual(grown("grpc_server_started_total", labels), 1)
      assert.strictEqual(grown("grpc_server_handled_total", { ...labels, grpc_code: code }), 1)
      assert.strictEqual(after.total("grpc_server_handled_total") - before.total("grpc_server_handled_total"), 1)
      assert.strictEqual(after.total("grpc_server_rejected_total"), 0)
      assert.strictEqual(grown("grpc_server_handling_seconds_count", labels), 1)
      const seconds = grown("grpc_server_handling_seconds_sum", labels)
      assert.isAbove(seconds, outcome === "deadline" ? 0.1 : 0)
      assert.isBelow(seconds, 10)
      const duration = "rpc_server_call_duration_seconds_count"
      assert.strictEqual(after.total(duration, rpc) - before.total(duration, rpc), 1)
      // errors of the server have the label error_type
      const isFault = ["Unavailable", "Internal", "DeadlineExceeded"].includes(code)
      const fault = isFault ? { error_type: rpc.rpc_status_code } : {}
      assert.strictEqual(after.total(duration, { ...rpc, ...fault }), after.total(duration, rpc))
      assert.strictEqual(after.labels(duration).has("error_type"), isFault)
    }).pipe(Effect.scoped, withRegistry)
  )

  it.live("contain no labels that callers can choose", () =>
    Effect.gen(function* () {
      const { seen, target } = yield* Outcomes.make()
      for (const path of ["/zzz9/zzz9", `/${EchoService.name}/zzz9`, "/zzz9"]) {
        yield* RawCall.send(target, { path, body: new Uint8Array(5), headers: { zzz9: "zzz9" } })
        yield* seen
      }
      const { text, value } = yield* scrape
      assert.notInclude(text, "zzz9")
      const labels = { grpc_type: "unary", grpc_service: "_OTHER", grpc_method: "_OTHER" }
      assert.strictEqual(value("grpc_server_started_total", labels), 3)
      assert.strictEqual(value("grpc_server_handled_total", { ...labels, grpc_code: "Unimplemented" }), 3)
      assert.strictEqual(value("grpc_server_rejected_total", { ...labels, grpc_code: "Unimplemented" }), 3)
    }).pipe(Effect.scoped, withRegistry)
  )

  it.live("report the calls in flight, queued and shed", () =>
    Effect.gen(function* () {
      const { client, seen, started } = yield* Outcomes.make({
        limits: { maxConcurrency: 1, maxQueue: 1, maxQueueWait: Duration.minutes(1) }
      })
      const first = yield* Effect.forkChild(client.EchoOnce({ text: "hang" }))
      yield* started
      const second = yield* Effect.forkChild(client.EchoOnce({ text: "hello" }), { startImmediately: true })
      // the third call is shed while the second is queued
      const { reason } = yield* Effect.flip(client.EchoOnce({ text: "hello" }))
      assert.strictEqual(reason._tag, "ResourceExhausted")
      yield* seen
      const { value } = yield* scrape
      assert.strictEqual(value("grpc_server_calls_limit"), 1)
      assert.strictEqual(value("grpc_server_calls_in_flight"), 1)
      assert.strictEqual(value("grpc_server_calls_queued"), 1)
      assert.strictEqual(value("grpc_server_calls_shed_total"), 1)
      const labels = { grpc_type: "unary", grpc_service: EchoService.name, grpc_method: "EchoOnce" }
      assert.strictEqual(value("grpc_server_handled_total", { ...labels, grpc_code: "ResourceExhausted" }), 1)
      assert.strictEqual(value("grpc_server_rejected_total", { ...labels, grpc_code: "ResourceExhausted" }), 1)
      yield* Fiber.interrupt(first)
      yield* Fiber.join(second)
      yield* seen
      yield* seen
      const after = yield* scrape
      assert.strictEqual(after.value("grpc_server_calls_in_flight"), 0)
      assert.strictEqual(after.value("grpc_server_calls_queued"), 0)
    }).pipe(Effect.scoped, withRegistry)
  )
})

describe("the metrics of a client", () => {
  it.live("count calls once however many attempts they take, and count retries", () =>
    Effect.gen(function* () {
      let failures = 2
      const { call } = yield* Outcomes.serve({
        inputs: {
          missing: Effect.fail(Status.notFound("no such thing")),
          flaky: Effect.suspend(() => (failures-- > 0 ? Effect.fail(Status.unavailable("not yet")) : Effect.void))
        }
      })
      yield* call("unary", "flaky")
      yield* Effect.flip(call("unary", "missing"))
      const { total, value } = yield* scrape
      const method = { grpc_service: EchoService.name, grpc_method: "Echo" }
      assert.strictEqual(value("grpc_client_retries_total", method), 2)
      const duration = "rpc_client_call_duration_seconds_count"
      const rpc = { rpc_system_name: "grpc", rpc_method: `${EchoService.name}/Echo`, server_address: "127.0.0.1" }
      assert.strictEqual(total(duration, { ...rpc, rpc_status_code: "OK" }), 1)
      assert.strictEqual(total(duration, { ...rpc, rpc_status_code: "NOT_FOUND", error_type: "NOT_FOUND" }), 1)
      assert.strictEqual(total(duration), 2)
    }).pipe(withRegistry)
  )

  it.live("report the state of the circuit breaker", () =>
    Effect.gen(function* () {
      const { call, target } = yield* Outcomes.serve({
        inputs: { down: Effect.fail(Status.unavailable("down")) },
        client: { policy: { retry: RetryPolicy.never, circuitFailures: 2, circuitOpen: Duration.hours(1) } }
      })
      const state = Effect.map(scrape, ({ value }) =>
        ["closed", "open", "half_open"].filter(
          (state) => value("grpc_client_circuit_state", { target, grpc_service: EchoService.name, state }) === 1
        )
      )
      // a circuit breaker is created by the first call of its service
      yield* call("unary", "hello")
      assert.deepStrictEqual(yield* state, ["closed"])
      yield* Effect.flip(call("unary", "down"))
      yield* Effect.flip(call("unary", "down"))
      assert.deepStrictEqual(yield* state, ["open"])
    }).pipe(withRegistry)
  )
})
