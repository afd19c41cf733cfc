import { request as send } from "node:http"

import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Equal, ErrorReporter, Layer, Metric, Queue, type Scope, Tracer } from "effect"
import { HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import { PrometheusMetrics } from "effect/observability"

import * as HttpObserver from "../../../src/layers/http/HttpObserver.ts"
import * as WebServer from "../../../src/layers/http/WebServer.ts"
import { Drain } from "../../../src/layers/process/Drain.ts"
import { prometheusName } from "../../../src/layers/telemetry/prometheusName.ts"
import * as Sampling from "../../../src/layers/telemetry/Sampling.ts"
import * as TraceContext from "../../../src/layers/telemetry/TraceContext.ts"
import { parse } from "../../integration/Scrape.ts"
import * as Logs from "../telemetry/Logs.ts"
import * as Spans from "../telemetry/Spans.ts"
import * as RawHttp from "./RawHttp.ts"

const secret = "the secret of a bug"

const text = (body: string, status = 200) => HttpServerResponse.text(body, { status })

/** A defect whose stack names this file. */
const bug = () => new RangeError(secret)

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

interface Asking {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
}

interface Site {
  readonly port: number
  /** Sends a request on a connection of its own, with a method that Node knows. */
  readonly get: (path: string, asking?: Asking) => Effect.Effect<Answer>
  /** Waits until a request of `/hang` has started. */
  readonly started: Effect.Effect<void>
  readonly logs: Logs.Recorder
  readonly spans: Spans.Recorder
  /** Waits until the span of a request has ended, which is after its metrics and log line. */
  readonly ended: Effect.Effect<void>
  /** The metrics as Prometheus would read them now. */
  readonly scrape: Effect.Effect<ReturnType<typeof parse>>
  /** The errors that were reported. */
  readonly reports: Array<{
    readonly error: Error
    readonly severity: string
    readonly attributes: Readonly<Record<string, unknown>>
    readonly cause: Cause.Cause<unknown>
  }>
}

interface Options {
  readonly trustsTraces?: boolean
  readonly tracer?: "recorder" | "none" | Sampling.Sampler
}

const ask =
  (port: number): Site["get"] =>
  (path, { headers, method = "GET" } = {}) =>
    Effect.callback<Answer>((resume) => {
      const request = send(
        { host: "127.0.0.1", port, path, method, agent: false, headers: { ...headers } },
        (response) => {
          let body = ""
          response.setEncoding("utf8")
          response.on("data", (chunk: string) => (body += chunk))
          response.on("end", () =>
            resume(
              Effect.succeed({
                status: response.statusCode ?? 0,
                headers: Object.fromEntries(
                  Object.entries(response.headers).map(([name, value]) => [name, String(value)])
                ),
                body
              })
            )
          )
        }
      )
      request.on("error", (error) => resume(Effect.die(error)))
      request.end()
    })

/** A site on a real server, with recorders of its logs, spans, metrics and error reports. */
const observed = (options: Options = {}): Effect.Effect<Site, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const started = yield* Queue.unbounded<void>()
    const ended = yield* Queue.unbounded<void>()
    const logs = Logs.recorder()
    const spans = Spans.recorder()
    const recorder = Tracer.make({
      span: (options) => {
        const span = spans.tracer.span(options)
        const end = span.end.bind(span)
        span.end = (...args) => {
          end(...args)
          Queue.offerUnsafe(ended, undefined)
        }
        return span
      }
    })
    const { tracer = "recorder", trustsTraces = false } = options
    const reports: Array<Site["reports"][number]> = []
    const observers = Layer.mergeAll(
      logs.layer,
      ErrorReporter.layer([
        ErrorReporter.make(({ attributes, cause, error, severity }) => {
          reports.push({ attributes, cause, error, severity })
        })
      ]),
      Layer.succeed(
        Tracer.Tracer,
        tracer === "none" ? Tracer.nativeTracer : tracer === "recorder" ? recorder : Sampling.tracer(recorder, tracer)
      )
    )

    const app: HttpObserver.App = Effect.gen(function* () {
      const { url } = yield* HttpServerRequest.HttpServerRequest
      const path = url.split("?")[0]
      if (path === "/") return text("home")
      if (path === "/books/1") return text("a book")
      if (path === "/moved") return HttpServerResponse.empty({ status: 302 })
      if (path === "/down") return text("later", 503)
      if (path === "/bug") return yield* Effect.die(bug())
      if (path === "/string") return yield* Effect.die(secret)
      if (path === "/hang") return yield* Effect.andThen(Queue.offer(started, undefined), Effect.never)
      if (path === "/trace")
        return HttpServerResponse.jsonUnsafe((yield* Effect.map(Effect.context<never>(), TraceContext.toHeaders)) ?? {})
      return text("no such page", 404)
    })
    const routes = ["/", "/moved", "/down", "/bug", "/string", "/hang", "/trace"]
    const site: WebServer.WebApp = {
      app,
      routeOf: (path) => (path.startsWith("/books/") ? "/books/{id}" : routes.find((route) => route === path)),
      failed: text("sorry", 500)
    }

    const registry: Metric.MetricRegistry = new Map()
    const server = yield* Layer.build(
      WebServer.serve({ host: "127.0.0.1", port: 0, trustsTraces })(Effect.succeed(site)).pipe(
        Layer.withSpan("start"),
        Layer.provide(Layer.merge(Drain.layerTest(), observers))
      )
    ).pipe(Effect.provideService(Metric.MetricRegistry, registry))
    const { address } = Context.get(server, HttpServer.HttpServer)
    const port = NetAddress.isInetAddress(address) ? address.port : 0
    spans.spans.length = 0
    logs.clear()
    return {
      port,
      get: ask(port),
      started: Queue.take(started),
      logs,
      spans,
      ended: Queue.take(ended),
      scrape: PrometheusMetrics.format({ metricNameMapper: prometheusName }).pipe(
        Effect.map(parse),
        Effect.provideService(Metric.MetricRegistry, registry)
      ),
      reports
    }
  })

const durations = "http_server_request_duration_seconds"

/** Sends a request whose response never comes, and succeeds with it once it has started, so that the test can abort it. */
const abandon = ({ port, started }: Site) =>
  Effect.gen(function* () {
    const request = send({ host: "127.0.0.1", port, path: "/hang", agent: false })
    request.on("error", () => {})
    request.end()
    yield* started
    return request
  })

describe("the request metrics", () => {
  it.live("count requests by method, status and route", () =>
    Effect.gen(function* () {
      const { get, scrape } = yield* observed()
      for (const path of [
        "/",
        "/",
        "/?zzz9=zzz9",
        "/books/1?a",
        "/moved",
        "/down",
        "/bug",
        "/zzz9",
        "/zzz9/zzz9?zzz9"
      ]) {
        yield* get(path)
      }
      yield* get("/", { method: "HEAD" })
      yield* get("/", { method: "POST" })
      const metrics = yield* scrape
      const expected = [
        { method: "GET", status: "200", route: "/", count: 3 },
        { method: "GET", status: "200", route: "/books/{id}", count: 1 },
        { method: "GET", status: "302", route: "/moved", count: 1 },
        { method: "GET", status: "503", route: "/down", error: "503", count: 1 },
        { method: "GET", status: "500", route: "/bug", error: "500", count: 1 },
        { method: "GET", status: "404", count: 2 },
        { method: "HEAD", status: "200", route: "/", count: 1 },
        { method: "POST", status: "200", route: "/", count: 1 }
      ]
      for (const { count, error, method, route, status } of expected) {
        const labels = {
          http_request_method: method,
          http_response_status_code: status,
          url_scheme: "http",
          ...(route === undefined ? {} : { http_route: route }),
          ...(error === undefined ? {} : { error_type: error })
        }
        const counted = (name: string, more = {}) =>
          metrics.samples
            .filter((sample) => sample.name === name)
            .filter((sample) => Equal.equals(sample.labels, { ...labels, ...more }))
            .map(({ value }) => value)
        assert.deepStrictEqual(counted(`${durations}_count`), [count], JSON.stringify(labels))
        const [sum = 0] = counted(`${durations}_sum`)
        assert.isAbove(sum, 0)
        assert.isBelow(sum, 10)
        assert.deepStrictEqual(counted(`${durations}_bucket`, { le: "+Inf" }), [count])
      }
      assert.strictEqual(metrics.total(`${durations}_count`), 11)
      assert.strictEqual(metrics.value("http_server_active_requests"), 0)
    })
  )

  it.live("contain no labels that clients can choose", () =>
    Effect.gen(function* () {
      const { get, port, scrape } = yield* observed()
      for (const path of ["/zzz9", "/?zzz9=zzz9", "/zzz9?zzz9", "http://zzz9/zzz9", "//zzz9"]) {
        yield* get(path, { headers: { host: "zzz9", "user-agent": "zzz9", zzz9: "zzz9" } })
      }
      // a method that Node knows, and one that its parser rejects
      const odd = yield* get("/", { method: "PROPFIND" })
      assert.strictEqual(odd.status, 200)
      const refused = yield* RawHttp.open(port)
      refused.send("ZZZ9 / HTTP/1.1\r\nhost: zzz9\r\n\r\n")
      assert.deepStrictEqual(RawHttp.statuses(yield* refused.closed), [400])
      const { labels, text, total } = yield* scrape
      assert.notInclude(text.toLowerCase(), "zzz9")
      assert.notInclude(text, "PROPFIND")
      assert.strictEqual(total(`${durations}_count`), 6)
      assert.strictEqual(total(`${durations}_count`, { http_request_method: "_OTHER", http_route: "/" }), 1)
      assert.strictEqual(total(`${durations}_count`, { http_request_method: "GET", http_route: "/" }), 1)
      assert.strictEqual(total(`${durations}_count`, { http_response_status_code: "404" }), 4)
      assert.isFalse(labels(`${durations}_count`).has("error_type"))
    })
  )

  it.live("count unknown methods as _OTHER", () =>
    Effect.gen(function* () {
      const failed = text("sorry", 500)
      const app = HttpObserver.observe(Effect.succeed(text("home")), {
        routeOf: () => undefined,
        failed,
        trustsTraces: false
      })
      for (const method of ["ZZZ9", "zzz9", "get"]) {
        // Request normalizes or rejects some of these methods
        const request = Object.defineProperty(
          HttpServerRequest.fromWeb(new Request("http://localhost/zzz9")),
          "method",
          {
            value: method
          }
        )
        yield* Effect.provideService(app, HttpServerRequest.HttpServerRequest, request)
      }
      const metrics = parse(yield* PrometheusMetrics.format({ metricNameMapper: prometheusName }))
      assert.notInclude(metrics.text.toLowerCase(), "zzz9")
      assert.strictEqual(metrics.total(`${durations}_count`, { http_request_method: "_OTHER" }), 3)
      assert.strictEqual(metrics.total(`${durations}_count`), 3)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.live("count the active requests", () =>
    Effect.gen(function* () {
      const site = yield* observed()
      const active = Effect.map(site.scrape, ({ value }) => value("http_server_active_requests"))
      const first = yield* abandon(site)
      assert.strictEqual(yield* active, 1)
      const second = yield* abandon(site)
      assert.strictEqual(yield* active, 2)
      first.destroy()
      yield* site.ended
      assert.strictEqual(yield* active, 1)
      second.destroy()
      yield* site.ended
      assert.strictEqual(yield* active, 0)
    })
  )
})

const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"
const traced = (flags: string) => ({
  traceparent: `00-${traceId}-${spanId}-${flags}`,
  tracestate: "vendor=1"
})

describe("the span of a request", () => {
  it.live.each([
    { path: "/", name: "GET /", route: "/", status: 200 },
    { path: "/books/1?a=b&c", name: "GET /books/{id}", route: "/books/{id}", status: 200 },
    { path: "/moved", name: "GET /moved", route: "/moved", status: 302 },
    { path: "/zzz9?", name: "GET", status: 404 },
    { path: "/down", name: "GET /down", route: "/down", status: 503 },
    { path: "/bug", name: "GET /bug", route: "/bug", status: 500 },
    { path: "/", method: "PROPFIND", name: "_OTHER /", route: "/", status: 200 }
  ])(
    "of $path is called $name, with its kind, attributes and status",
    ({ method = "GET", name, path, route, status }) =>
      Effect.gen(function* () {
        const { ended, get, spans } = yield* observed()
        yield* get(path, { method, headers: { "user-agent": "a browser" } })
        yield* ended
        const [span, ...others] = spans.spans
        assert.deepStrictEqual(others, [])
        assert(span !== undefined)
        assert.deepStrictEqual([span.name, span.kind, span.status._tag], [name, "server", "Ended"])
        assert.isUndefined(Spans.parentOf(span))
        const isOdd = method !== "GET"
        assert.deepStrictEqual(Object.fromEntries(span.attributes), {
          "http.request.method": isOdd ? "_OTHER" : method,
          ...(isOdd ? { "http.request.method_original": method } : {}),
          "url.scheme": "http",
          "url.path": path.split("?")[0],
          ...(route === undefined ? {} : { "http.route": route }),
          "client.address": "127.0.0.1",
          "user_agent.original": "a browser",
          "http.response.status_code": status,
          ...(status < 500 ? {} : { "error.type": String(status) })
        })
        assert.strictEqual(Spans.isError(span), status >= 500)
        // exporters show this text instead of the cause
        if (span.status._tag === "Ended" && span.status.exit._tag === "Failure") {
          assert.strictEqual(Cause.pretty(span.status.exit.cause), `${status}: status ${status}`)
        }
      })
  )

  it.live("is no error if the client disconnects", () =>
    Effect.gen(function* () {
      const site = yield* observed()
      const request = yield* abandon(site)
      request.destroy()
      yield* site.ended
      const [span] = site.spans.named("GET /hang")
      assert(span !== undefined)
      assert.strictEqual(span.attributes.get("http.response.status_code"), 499)
      assert.isFalse(span.attributes.has("error.type"))
      assert.isFalse(Spans.isError(span))
    })
  )

  it.live.each([{ trustsTraces: true }, { trustsTraces: false }])(
    "is a child of the caller's span, with trustsTraces: $trustsTraces",
    ({ trustsTraces }) =>
      Effect.gen(function* () {
        const { ended, get, spans } = yield* observed({ trustsTraces, tracer: { name: "always_on", ratio: 1 } })
        const { body } = yield* get("/trace", { headers: traced("01") })
        yield* ended
        const [span] = spans.spans
        assert(span !== undefined)
        assert.deepStrictEqual([span.traceId, Spans.parentOf(span)], [traceId, spanId])
        // outgoing requests are children of this span
        assert.deepStrictEqual(JSON.parse(body), {
          traceparent: `00-${traceId}-${span.spanId}-01`,
          tracestate: "vendor=1"
        })
      })
  )

  it.live("is a root span if traceparent is invalid", () =>
    Effect.gen(function* () {
      const { ended, get, spans } = yield* observed()
      for (const traceparent of ["zzz9", `00-${"0".repeat(32)}-${spanId}-01`, `ff-${traceId}-${spanId}-01`]) {
        spans.spans.length = 0
        yield* get("/", { headers: { traceparent } })
        yield* ended
        const [span] = spans.spans
        assert(span !== undefined)
        assert.isUndefined(Spans.parentOf(span))
        assert.notStrictEqual(span.traceId, traceId)
      }
    })
  )

  it.live.each([
    // the sampled flag of a trusted caller decides
    { trustsTraces: true, sampler: "parentbased_always_off", flags: "01", isRecorded: true },
    { trustsTraces: true, sampler: "parentbased_always_on", flags: "00", isRecorded: false },
    // the sampled flag of an untrusted caller is ignored
    { trustsTraces: false, sampler: "parentbased_always_off", flags: "01", isRecorded: false },
    { trustsTraces: false, sampler: "parentbased_always_off", flags: "00", isRecorded: false },
    { trustsTraces: false, sampler: "parentbased_always_on", flags: "00", isRecorded: true },
    { trustsTraces: false, sampler: "parentbased_always_on", flags: "01", isRecorded: true }
  ] as const)(
    "is recorded ($isRecorded) with the sampler $sampler, flags $flags and trustsTraces: $trustsTraces",
    ({ flags, isRecorded, sampler, trustsTraces }) =>
      Effect.gen(function* () {
        const { ended, get, spans } = yield* observed({ trustsTraces, tracer: { name: sampler, ratio: 0 } })
        const { body } = yield* get("/trace", { headers: traced(flags) })
        if (isRecorded) yield* ended
        assert.strictEqual(spans.spans.length, isRecorded ? 1 : 0)
        const { traceparent, tracestate } = JSON.parse(body) as Record<string, string>
        const [version, trace, parent, sent] = traceparent?.split("-") ?? []
        assert.deepStrictEqual([version, trace, sent], ["00", traceId, isRecorded ? "01" : "00"])
        assert.strictEqual(parent, isRecorded ? spans.spans[0]?.spanId : spanId)
        assert.strictEqual(tracestate, "vendor=1")
      })
  )

  it.live.each([
    { trustsTraces: true, flags: "01", sent: "01" },
    { trustsTraces: false, flags: "01", sent: "00" }
  ])(
    "is not created without a tracer, and the caller's context is passed on, with trustsTraces: $trustsTraces",
    ({ flags, sent, trustsTraces }) =>
      Effect.gen(function* () {
        const { get } = yield* observed({ trustsTraces, tracer: "none" })
        assert.deepStrictEqual(JSON.parse((yield* get("/trace", { headers: traced(flags) })).body), traced(sent))
        assert.deepStrictEqual(JSON.parse((yield* get("/trace")).body), {})
      })
  )
})

describe("the access log", () => {
  it.live.each([
    { path: "/?zzz9", status: 200, level: "DEBUG" },
    { path: "/moved", status: 302, level: "DEBUG" },
    { path: "/zzz9?zzz9", status: 404, level: "INFO" },
    { path: "/down", status: 503, level: "ERROR" }
  ])("has a line for $path at $level", ({ level, path, status }) =>
    Effect.gen(function* () {
      const { ended, get, logs, spans } = yield* observed()
      yield* get(path)
      yield* ended
      const [line, ...others] = logs.access()
      assert.deepStrictEqual(others, [])
      assert(line !== undefined)
      assert.deepStrictEqual([line.level, line.message, line.cause], [level, "HTTP request completed", undefined])
      const { durationMs, ...annotations } = line.annotations
      assert.isAbove(Number(durationMs), 0)
      assert.isBelow(Number(durationMs), 10_000)
      const [span] = spans.spans
      assert.deepStrictEqual(annotations, {
        trace_id: span?.traceId,
        span_id: span?.spanId,
        method: "GET",
        // without the query, which may contain private data
        path: path.split("?")[0],
        status,
        peer: "127.0.0.1"
      })
    })
  )

  it.live("has no error for a client that disconnects, which is counted as 499", () =>
    Effect.gen(function* () {
      const site = yield* observed()
      const request = yield* abandon(site)
      request.destroy()
      yield* site.ended
      assert.deepStrictEqual(
        site.logs.lines().map(({ annotations, cause, level }) => [level, annotations["status"], cause]),
        [["INFO", 499, undefined]]
      )
      assert.deepStrictEqual(site.reports, [])
      const { total } = yield* site.scrape
      assert.strictEqual(total(`${durations}_count`, { http_response_status_code: "499", http_route: "/hang" }), 1)
      assert.strictEqual(total(`${durations}_count`), 1)
    })
  )

  it.live("rate-limits failed requests and counts the suppressed lines, but logs all defects", () =>
    Effect.gen(function* () {
      const { get, logs } = yield* observed({ tracer: "none" })
      const many = (path: string, count: number) =>
        Effect.replicateEffect(get(path), count, { concurrency: 50, discard: true })
      let floods = 0
      const flood = Effect.andThen(many("/zzz9", 250), many("/down", 250))
      // the first summary of suppressed lines may include those of an earlier test
      yield* Effect.repeat(
        Effect.tap(
          flood,
          Effect.sync(() => void floods++)
        ),
        { until: () => logs.omitted("requests that failed") > 0 }
      )
      yield* many("/bug", 60)
      yield* many("/", 60)
      const count = (status: number) =>
        logs.access().filter(({ annotations }) => annotations["status"] === status).length
      const logged = () => count(404) + count(503)
      assert.isAtMost(logged() + logs.omitted("requests that failed"), floods * 500)
      assert.isBelow(logged(), floods * 500)
      assert.deepStrictEqual([count(500), count(200)], [60, 60])
    })
  )
})

describe("a defect in a handler", () => {
  it.live("is logged and reported, and the response has only an id of it", () =>
    Effect.gen(function* () {
      const { ended, get, logs, reports, spans } = yield* observed()
      const { body, headers, status } = yield* get("/bug?zzz9")
      yield* ended
      const { "x-request-id": id = "", date: _, ...others } = headers
      assert.deepStrictEqual([status, body], [500, "sorry"])
      assert.match(id, /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/)
      assert.deepStrictEqual(others, {
        connection: "close",
        "content-length": "5",
        "content-type": "text/plain"
      })

      const [line, ...lines] = logs.access()
      assert.deepStrictEqual(lines, [])
      assert(line !== undefined)
      assert.deepStrictEqual([line.level, line.message], ["ERROR", "Unexpected error in an HTTP handler"])
      assert.match(line.cause ?? "", new RegExp(`^RangeError: ${secret}\n    at .*HttpObserver\\.test\\.ts:\\d+:\\d+`))
      const { durationMs, span_id, trace_id, ...known } = line.annotations
      assert.isAbove(Number(durationMs), 0)
      assert.deepStrictEqual(known, { method: "GET", path: "/bug", status: 500, peer: "127.0.0.1", requestId: id })
      assert.deepStrictEqual([trace_id, span_id], [spans.spans[0]?.traceId, spans.spans[0]?.spanId])

      const [report, ...more] = reports
      assert.deepStrictEqual(more, [])
      assert(report !== undefined)
      assert.strictEqual(report.severity, "Error")
      assert.deepStrictEqual([report.error.name, report.error.message], ["RangeError", secret])
      assert.include(report.error.stack, "HttpObserver.test.ts")
      const { durationMs: __, ...attributes } = report.attributes
      assert.deepStrictEqual(attributes, known)
    })
  )

  it.live("has a new id each time", () =>
    Effect.gen(function* () {
      const { get, logs, reports } = yield* observed()
      const ids = [yield* get("/bug"), yield* get("/string")].map(({ headers }) => headers["x-request-id"])
      assert.strictEqual(new Set(ids).size, 2)
      assert.deepStrictEqual(
        logs.access().map(({ annotations }) => annotations["requestId"]),
        ids
      )
      assert.deepStrictEqual(
        reports.map(({ attributes, error }) => [attributes["requestId"], error.message]),
        ids.map((id) => [id, secret])
      )
      // responses without a defect have no id
      assert.isUndefined((yield* get("/")).headers["x-request-id"])
      assert.isUndefined((yield* get("/down")).headers["x-request-id"])
    })
  )

  it.live("is logged also if it was thrown or came with an interruption", () =>
    Effect.gen(function* () {
      const logs = Logs.recorder()
      for (const app of [
        Effect.suspend((): HttpObserver.App => {
          throw bug()
        }),
        Effect.failCause(Cause.combine(Cause.interrupt(), Cause.die(bug())))
      ]) {
        logs.clear()
        const { headers, status } = yield* HttpObserver.observe(app, {
          routeOf: () => undefined,
          failed: text("sorry", 500),
          trustsTraces: false
        }).pipe(
          Effect.provideService(
            HttpServerRequest.HttpServerRequest,
            HttpServerRequest.fromWeb(new Request("http://localhost/"))
          ),
          Effect.provide(logs.layer)
        )
        assert.strictEqual(status, 500)
        assert.deepStrictEqual(
          logs.access().map(({ annotations, level }) => [level, annotations["requestId"]]),
          [["ERROR", headers["x-request-id"]]]
        )
      }
    })
  )
})
