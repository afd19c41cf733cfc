/**
 * Traces, metrics and log lines of both services, as a collector, Prometheus and a log reader receive them.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"

import * as Http2Backend from "../layers/grpc/Http2Backend.ts"
import { Installation } from "./Installation.ts"
import * as OtlpReceiver from "./OtlpReceiver.ts"
import * as RawCall from "./RawCall.ts"
import { scrape } from "./Scrape.ts"

const service = "onlinebooks.recommendations.v1.RecommendationsService"

const get = (port: number, path: string, headers: Record<string, string> = {}) =>
  HttpClient.execute(HttpClientRequest.get(`http://127.0.0.1:${port}${path}`, { headers })).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (body) => ({ status: response.status, body }))),
    // traceparent is set by the test
    Effect.provideService(HttpClient.TracerPropagationEnabled, false),
    Effect.orDie
  )

/** The port of a replica that answers UNAVAILABLE to every call. */
const unavailable = Http2Backend.serve((stream) => Http2Backend.respondStatus(stream, { "grpc-status": "14" }))

const kinds = { internal: 1, server: 2, client: 3 }

/** Exports only at the exit. */
const exportAtExit = { OTEL_BSP_SCHEDULE_DELAY: "3600000", OTEL_METRIC_EXPORT_INTERVAL: "3600000" }

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })("telemetry", (it) => {
  it.effect("has one trace of a page across both processes, with its failed attempt", () =>
    Effect.gen(function* () {
      const { start } = yield* Installation
      const collector = yield* OtlpReceiver.make()
      // Recommendations follows the sampling decision of Marketplace, and Marketplace that of the test
      const recommendations = yield* start("recommendations", {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        ...exportAtExit,
        OTEL_METRIC_EXPORT_INTERVAL: "100"
      })
      const marketplace = yield* start("marketplace", {
        OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/`,
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20token",
        OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test",
        MARKETPLACE_TRUST_TRACES: "true",
        RECOMMENDATIONS_TARGET: `ipv4:127.0.0.1:${yield* unavailable},127.0.0.1:${recommendations.port}`,
        MARKETPLACE_PAGE_BUDGET: "10 seconds",
        ...exportAtExit
      })
      // calls alternate between the replicas, so one of a few pages tries the failing one first
      const pages = Array.from({ length: 4 }, (_, page) => ({
        traceId: `0af7651916cd43dd8448eb211c8031${page}c`,
        spanId: `b7ad6b716920333${page}`
      }))
      for (const { spanId, traceId } of pages) {
        const page = yield* get(marketplace.port, "/?category=horror", {
          traceparent: `00-${traceId}-${spanId}-01`,
          tracestate: "vendor=1"
        })
        assert.strictEqual(page.status, 200)
      }
      const emits = (name: string) => collector.metrics().some((metric) => metric.name === name)
      yield* collector.until(() => emits("catalog_books") && emits("grpc_server_calls_in_flight"))
      // the exit flushes the rest
      for (const process of [marketplace, recommendations]) {
        yield* process.signal("SIGTERM")
        assert.strictEqual(yield* process.exitCode, 0)
      }

      const traces = pages.map(({ traceId }) => collector.spans.filter((span) => span.traceId === traceId))
      const retried = traces.findIndex((spans) =>
        spans.some(({ attributes }) => attributes["previous-rpc-attempts"] === 1)
      )
      assert.notStrictEqual(retried, -1)
      const spans = traces[retried]!
      const only = (name: string, kind: number) => {
        const found = spans.filter((span) => span.name === name && span.kind === kind)
        assert.strictEqual(found.length, 1, `${name} of kind ${kind}`)
        return found[0]!
      }
      // the parent of every span but the first is in the trace
      const ids = new Set(spans.map(({ spanId }) => spanId))
      assert.strictEqual(ids.size, spans.length)
      const roots = spans.filter(({ parentSpanId = "" }) => !ids.has(parentSpanId))
      const page = only("GET /", kinds.server)
      assert.deepStrictEqual(roots, [page])
      assert.strictEqual(page.parentSpanId, pages[retried]!.spanId)
      assert.deepInclude(page.attributes, {
        "http.request.method": "GET",
        "http.route": "/",
        "url.path": "/",
        "url.scheme": "http",
        "http.response.status_code": 200
      })
      // the query of a reader is private
      assert.notProperty(page.attributes, "url.query")
      assert.strictEqual(page.status.code, 0)
      assert.deepInclude(page.resource, {
        "service.name": "marketplace",
        "service.version": "1.0.0",
        "deployment.environment.name": "test"
      })

      const method = `${service}/Recommend`
      const call = only(method, kinds.internal)
      assert.strictEqual(call.status.code, 0)
      assert.strictEqual(call.attributes["rpc.status_code"], "OK")
      const attempts = spans
        .filter(({ kind, name }) => name === method && kind === kinds.client)
        .toSorted((a, b) => Number(BigInt(a.startTimeUnixNano) - BigInt(b.startTimeUnixNano)))
      assert.deepStrictEqual(
        attempts.map(({ attributes, parentSpanId, status }) => [
          parentSpanId,
          attributes["previous-rpc-attempts"],
          attributes["rpc.status_code"],
          attributes["error.type"],
          status.code
        ]),
        // several attempts fail if the other replica is not connected yet
        attempts.map((_, index) =>
          index === attempts.length - 1
            ? [call.spanId, index, "OK", undefined, 0]
            : [call.spanId, index, "UNAVAILABLE", "UNAVAILABLE", 2]
        )
      )
      const last = attempts.at(-1)!
      assert.strictEqual(last.attributes["network.peer.port"], recommendations.port)

      const answer = only(method, kinds.server)
      assert.strictEqual(answer.parentSpanId, last.spanId)
      assert.strictEqual(answer.resource["service.name"], "recommendations")
      assert.strictEqual(answer.status.code, 0)
      assert.deepInclude(answer.attributes, {
        "rpc.system.name": "grpc",
        "rpc.method": method,
        "rpc.status_code": "OK",
        "client.address": "127.0.0.1"
      })
      const domain = only("Recommender.recommend", kinds.internal)
      assert.strictEqual(domain.parentSpanId, answer.spanId)
      assert.strictEqual(domain.resource["service.name"], "recommendations")

      // nothing else was recorded, and metrics have the names that OpenTelemetry and Prometheus expect
      assert.deepStrictEqual(
        new Set(collector.spans.map(({ traceId }) => traceId)),
        new Set(pages.map(({ traceId }) => traceId))
      )
      const names = new Set(collector.metrics().map(({ name }) => name))
      for (const name of ["rpc.server.call.duration", "grpc_server_handled_total", "v8js.memory.heap.used"]) {
        assert.isTrue(names.has(name), name)
      }
      const duration = collector.metrics().find(({ name }) => name === "rpc.server.call.duration")
      assert.strictEqual(duration?.unit, "s")
      const points = duration!.histogram!.dataPoints.map(({ attributes, count }) => ({
        ...OtlpReceiver.read(attributes),
        count
      }))
      const recommended = points.find((point) => (point as Record<string, unknown>)["rpc.method"] === method)
      assert.deepStrictEqual(recommended, {
        "rpc.system.name": "grpc",
        "rpc.method": method,
        "rpc.status_code": "OK",
        count: 4
      } as never)
      assert.isTrue(collector.headers.some(({ authorization }) => authorization === "Bearer token"))
    })
  )

  it.effect("ignores the sampled flag of an untrusted caller, but joins its trace", () =>
    Effect.gen(function* () {
      const { start } = yield* Installation
      const collector = yield* OtlpReceiver.make()
      const recommendations = yield* start("recommendations", {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        ...exportAtExit
      })
      const page = Effect.fnUntraced(function* (sampler: string, flags: string) {
        const marketplace = yield* start("marketplace", {
          OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
          OTEL_TRACES_SAMPLER: sampler,
          RECOMMENDATIONS_TARGET: `127.0.0.1:${recommendations.port}`,
          ...exportAtExit
        })
        const traceId = `0af7651916cd43dd8448eb211c8031${flags}`
        yield* get(marketplace.port, "/", { traceparent: `00-${traceId}-b7ad6b7169203331-${flags}` })
        yield* marketplace.signal("SIGTERM")
        yield* marketplace.exitCode
        return traceId
      })
      yield* page("parentbased_always_off", "01")
      const recorded = yield* page("parentbased_always_on", "00")
      yield* recommendations.signal("SIGTERM")
      yield* recommendations.exitCode
      assert.deepStrictEqual(new Set(collector.spans.map(({ traceId }) => traceId)), new Set([recorded]))
      assert.deepStrictEqual(
        new Set(collector.spans.map(({ resource }) => resource["service.name"])),
        new Set(["marketplace", "recommendations"])
      )
    })
  )

  it.effect("counts calls and requests without labels from untrusted input", () =>
    Effect.gen(function* () {
      const { start } = yield* Installation
      const recommendations = yield* start("recommendations")
      const marketplace = yield* start("marketplace", {
        RECOMMENDATIONS_TARGET: `127.0.0.1:${recommendations.port}`,
        MARKETPLACE_PAGE_BUDGET: "10 seconds"
      })
      for (let page = 0; page < 5; page++) yield* get(marketplace.port, "/")
      for (let page = 0; page < 3; page++) yield* get(marketplace.port, "/?category=zzz9")
      for (let page = 0; page < 2; page++) yield* get(marketplace.port, "/zzz9?zzz9=zzz9")
      yield* HttpClient.execute(HttpClientRequest.make("PUT")(`http://127.0.0.1:${marketplace.port}/`))
      const target = `127.0.0.1:${recommendations.port}`
      const frame = (bytes: ReadonlyArray<number>) => Buffer.from([0, 0, 0, 0, bytes.length, ...bytes])
      const headers = { "user-agent": "zzz9", zzz9: "zzz9" }
      const send = (path: string, body: Uint8Array) => RawCall.send(target, { path, body, headers })
      assert.strictEqual(yield* send(`/${service}/Recommend`, frame([])), "0")
      assert.strictEqual(yield* send(`/${service}/zzz9`, frame([])), "12")
      assert.strictEqual(yield* send("/zzz9/zzz9", frame([])), "12")

      const grpc = yield* scrape(recommendations.adminPort)
      const web = yield* scrape(marketplace.adminPort)
      for (const { text } of [grpc, web]) assert.notInclude(text.toLowerCase(), "zzz9")

      const recommend = { grpc_type: "unary", grpc_service: service, grpc_method: "Recommend" }
      const list = { ...recommend, grpc_method: "ListCategories" }
      const other = { grpc_type: "unary", grpc_service: "_OTHER", grpc_method: "_OTHER" }
      assert.strictEqual(grpc.value("grpc_server_handled_total", { ...recommend, grpc_code: "OK" }), 5 + 1)
      assert.strictEqual(grpc.value("grpc_server_handled_total", { ...list, grpc_code: "OK" }), 1)
      assert.strictEqual(grpc.value("grpc_server_handled_total", { ...other, grpc_code: "Unimplemented" }), 2)
      // the buckets tell 0.2 ms from 2 ms
      const bounds = new Set(
        grpc.samples
          .filter(({ name }) => name === "grpc_server_handling_seconds_bucket")
          .map(({ labels }) => labels["le"])
      )
      for (const bound of ["0.0002", "0.0005", "0.001", "0.002", "+Inf"]) assert.isTrue(bounds.has(bound), bound)
      assert.strictEqual(grpc.value("catalog_books"), 200)
      assert.isAbove(grpc.value("catalog_load_duration_seconds"), 0)
      assert.strictEqual(grpc.value("process_draining"), 0)
      assert.strictEqual(grpc.value("grpc_server_calls_in_flight"), 0)
      assert.strictEqual(grpc.total("build_info", { service: "recommendations", version: "1.0.0" }), 1)
      assert.isAbove(grpc.value("v8js_memory_heap_used_bytes"), 1e6)

      const page = { http_request_method: "GET", url_scheme: "http" }
      const count = "http_server_request_duration_seconds_count"
      assert.strictEqual(web.value(count, { ...page, http_route: "/", http_response_status_code: "200" }), 5)
      assert.strictEqual(web.value(count, { ...page, http_route: "/", http_response_status_code: "404" }), 3)
      assert.strictEqual(web.value(count, { ...page, http_response_status_code: "404" }), 2)
      assert.strictEqual(
        web.value(count, { ...page, http_route: "/", http_request_method: "PUT", http_response_status_code: "405" }),
        1
      )
      assert.strictEqual(web.total(count), 11)
      assert.strictEqual(web.value("http_server_active_requests"), 0)
      assert.strictEqual(
        web.total("rpc_client_call_duration_seconds_count", {
          rpc_method: `${service}/Recommend`,
          rpc_status_code: "OK",
          server_address: "127.0.0.1"
        }),
        5
      )
      assert.strictEqual(web.value("grpc_client_circuit_state", { target, grpc_service: service, state: "closed" }), 1)
      assert.strictEqual(web.value("marketplace_pages_without_books_total"), 0)

      yield* recommendations.signal("SIGKILL")
      yield* Effect.exit(recommendations.exitCode)
      yield* get(marketplace.port, "/")
      assert.strictEqual((yield* scrape(marketplace.adminPort)).value("marketplace_pages_without_books_total"), 1)
    })
  )

  it.effect("has log lines with service, version, trace and call", () =>
    Effect.gen(function* () {
      const { start } = yield* Installation
      const recommendations = yield* start("recommendations", { LOG_LEVEL: "debug", OTEL_SERVICE_NAME: "books" })
      const traceId = "0af7651916cd43dd8448eb211c80319c"
      yield* RawCall.send(`127.0.0.1:${recommendations.port}`, {
        path: `/${service}/Recommend`,
        body: new Uint8Array(5),
        headers: { traceparent: `00-${traceId}-b7ad6b7169203331-00` }
      })
      yield* recommendations.written('"gRPC call completed"')
      yield* recommendations.signal("SIGTERM")
      yield* recommendations.exitCode
      const lines = (yield* recommendations.output)
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { readonly message: unknown; readonly annotations: Record<string, unknown> })
      for (const { annotations, message } of lines) {
        assert.strictEqual(annotations["version"], "1.0.0", String(message))
        assert.isString(annotations["service"], String(message))
      }
      const access = lines.filter(({ message }) => message === "gRPC call completed")
      assert.strictEqual(access.length, 1)
      assert.deepInclude(access[0]!.annotations, {
        service: "books",
        method: `${service}/Recommend`,
        code: "OK",
        trace_id: traceId,
        span_id: "b7ad6b7169203331"
      })
      assert.isNumber(access[0]!.annotations["durationMs"])
      assert.match(String(access[0]!.annotations["peer"]), /^127\.0\.0\.1:\d+$/)
    })
  )
})
