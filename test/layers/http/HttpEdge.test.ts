/**
 * The limits that an HTTP server puts on its clients, and how it rejects and reports invalid requests, over raw connections.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  Deferred,
  Duration,
  Effect,
  Exit,
  Layer,
  Metric,
  Option,
  Queue,
  Schedule,
  Scope,
  Tracer
} from "effect"
import { HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import { PrometheusMetrics } from "effect/observability"

import * as IpNetworks from "../../../src/layers/config/IpNetworks.ts"
import * as AdminServer from "../../../src/layers/http/AdminServer.ts"
import * as HttpEdge from "../../../src/layers/http/HttpEdge.ts"
import type { App } from "../../../src/layers/http/HttpObserver.ts"
import * as WebServer from "../../../src/layers/http/WebServer.ts"
import { Drain } from "../../../src/layers/process/Drain.ts"
import * as FileDescriptors from "../../../src/layers/telemetry/FileDescriptors.ts"
import { prometheusName } from "../../../src/layers/telemetry/prometheusName.ts"
import { parse } from "../../integration/Scrape.ts"
import * as Logs from "../telemetry/Logs.ts"
import * as Spans from "../telemetry/Spans.ts"
import * as RawHttp from "./RawHttp.ts"

interface Options extends Partial<HttpEdge.Limits> {
  readonly trusted?: string
  readonly drain?: Layer.Layer<Drain>
}

/** A server whose page `/hang` waits for `release`, and whose page `/large` is larger than any buffer. */
const serving = Effect.fnUntraced(function* ({ drain = Drain.layerTest(), trusted, ...limits }: Options = {}) {
  const started = yield* Queue.unbounded<void>()
  const interrupted = yield* Queue.unbounded<void>()
  const released = yield* Deferred.make<void>()
  const logs = Logs.recorder()
  const spans = Spans.recorder()
  const app: App = Effect.gen(function* () {
    const { url } = yield* HttpServerRequest.HttpServerRequest
    if (url === "/hang") {
      yield* Queue.offer(started, undefined)
      yield* Effect.onInterrupt(Deferred.await(released), () => Queue.offer(interrupted, undefined))
    }
    if (url === "/large") return HttpServerResponse.text(large)
    return HttpServerResponse.text("ok")
  })
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const registry: Metric.MetricRegistry = new Map()
  const server = yield* WebServer.serve({
    host: "127.0.0.1",
    port: 0,
    trustsTraces: false,
    trustedProxies: trusted === undefined ? undefined : Option.getOrThrow(IpNetworks.parse(trusted)),
    limits: { ...HttpEdge.defaultLimits, ...limits }
  })(
    Effect.succeed({
      app,
      routeOf: (path) => (path === "/" ? path : undefined),
      failed: HttpServerResponse.text("sorry", { status: 500 }),
      headers: { "x-content-type-options": "nosniff" }
    })
  ).pipe(
    Layer.provide(drain),
    Layer.provide(Layer.mergeAll(logs.layer, Layer.succeed(Tracer.Tracer, spans.tracer))),
    (layer) => Layer.buildWithScope(layer, scope),
    Effect.provideService(Metric.MetricRegistry, registry)
  )
  const { address } = Context.get(server, HttpServer.HttpServer)
  const port = NetAddress.isInetAddress(address) ? address.port : 0
  return {
    port,
    logs,
    spans,
    open: (localAddress?: string) => RawHttp.open(port, localAddress),
    started: Queue.take(started),
    interrupted: Queue.take(interrupted),
    release: Deferred.succeed(released, undefined),
    close: Scope.close(scope, Exit.void),
    scrape: PrometheusMetrics.format({ metricNameMapper: prometheusName }).pipe(
      Effect.map(parse),
      Effect.provideService(Metric.MetricRegistry, registry)
    )
  }
})

/** An edge without an Effect application. */
const listening = Effect.gen(function* () {
  const edge = yield* HttpEdge.make({
    name: "test",
    limits: HttpEdge.defaultLimits,
    trustedProxies: IpNetworks.none
  })
  const { address } = yield* HttpEdge.listen(edge, { host: "127.0.0.1", port: 0 })
  yield* edge.serve((_, response) => void response.end("ok"))
  return { edge, port: NetAddress.isInetAddress(address) ? address.port : 0 }
})

const large = "x".repeat(8 * 1024 * 1024)

/** Repeats a check until its assertions hold. */
const eventually = <A>(check: Effect.Effect<A>) =>
  Effect.catchDefect(check, (defect) => Effect.fail(defect)).pipe(
    Effect.retry({ schedule: Schedule.spaced("10 millis"), times: 500 })
  )

const test = (name: string, body: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(body()), 15_000)

describe("a request with an Upgrade header", () => {
  for (const offer of ["h2c", "websocket"]) {
    test(`to ${offer} is answered without an upgrade, and its connection is kept alive`, () =>
      Effect.gen(function* () {
        const { open } = yield* serving()
        const { send, until } = yield* open()
        send(RawHttp.get("/", ["Connection: Upgrade", `Upgrade: ${offer}`]))
        assert.include((yield* until("ok")).toLowerCase(), "connection: keep-alive")
        send(RawHttp.get())
        assert.deepStrictEqual(RawHttp.statuses(yield* until("ok", 2)), [200, 200])
      }))
  }

  test("does not delay the server's close", () =>
    Effect.gen(function* () {
      const { close, open } = yield* serving()
      const { closed, send, until } = yield* open()
      send(RawHttp.get("/", ["Connection: Upgrade", "Upgrade: h2c"]))
      yield* until("ok")
      const [elapsed] = yield* Effect.timed(close)
      assert.isBelow(Duration.toMillis(elapsed), 10_000)
      yield* closed
    }))
})

/** Different headers. */
const numbered = (count: number) => Array.from({ length: count }, (_, at) => `X${at}: x`)

describe("an invalid request", () => {
  const notHttp = "\x01\x02\r\n\r\n"
  const connect = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"
  /** `isRequest`: whether the request was parsed, and is therefore counted and timed like others. */
  const refused: ReadonlyArray<
    readonly [what: string, text: string, status: number, reason: string, isRequest: boolean]
  > = [
    ["bytes that are not HTTP", notHttp, 400, "no valid request", false],
    ["an unknown method", "ZZZ9 / HTTP/1.1\r\n\r\n", 400, "no valid request", false],
    ["headers that are too large", RawHttp.get("/", [`X: ${"x".repeat(20_000)}`]), 431, "headers too large", false],
    ["the method CONNECT", connect, 405, "CONNECT", false],
    ["no Host header", "GET / HTTP/1.1\r\n\r\n", 400, "no Host", true],
    ["two Host headers", RawHttp.get("/", ["hOST: b"]), 400, "several Hosts", true],
    ["a path in Host", RawHttp.get("/", [], "a/b"), 400, "a broken Host", true],
    ["user information in Host", RawHttp.get("/", [], "a@b"), 400, "a broken Host", true],
    ["too many headers", RawHttp.get("/", numbered(130)), 431, "too many headers", true],
    ["an unsupported Expect header", RawHttp.get("/", ["Expect: a-miracle"]), 417, "an expectation", true]
  ]
  for (const [what, text, status, reason, isRequest] of refused) {
    test(`with ${what} is answered with ${status}, closes the connection, and is counted and logged once`, () =>
      Effect.gen(function* () {
        const { logs, open, scrape } = yield* serving()
        const { closed, send } = yield* open()
        send(text)
        const answer = yield* closed
        assert.deepStrictEqual(RawHttp.statuses(answer), [status])
        assert.include(answer.toLowerCase(), "connection: close")
        yield* eventually(
          Effect.gen(function* () {
            const { total } = yield* scrape
            const labels = { http_response_status_code: String(status) }
            const requests = total("http_server_request_duration_seconds_count", labels)
            const others = total("http_server_refused_requests_total", { ...labels, error_type: reason })
            assert.deepStrictEqual([requests, others], isRequest ? [1, 0] : [0, 1])
            assert.strictEqual(total("http_server_active_requests"), 0)
            const lines = logs.lines().filter(({ message }) => message === "HTTP request refused")
            assert.deepStrictEqual(
              lines.map(({ annotations }) => [annotations["status"], annotations["reason"], annotations["peer"]]),
              [[status, reason, "127.0.0.1"]]
            )
          })
        )
      }))
  }

  test("that is incomplete after requestTimeout is answered with 408", () =>
    Effect.gen(function* () {
      const { open, scrape } = yield* serving({ requestTimeout: Duration.seconds(1) })
      const half = yield* open()
      half.send("GET / HTTP/1.1\r\nHost:")
      const slowBody = yield* open()
      slowBody.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1")
      assert.deepStrictEqual(RawHttp.statuses(yield* half.closed), [408])
      // this one was answered before its body arrived
      assert.deepStrictEqual(RawHttp.statuses(yield* slowBody.closed), [200])
      const { total } = yield* scrape
      assert.strictEqual(total("http_server_refused_requests_total", { http_response_status_code: "408" }), 2)
    }))

  for (const [what, text] of [
    ["bytes that are not HTTP", notHttp],
    ["the method CONNECT", connect]
  ] as const) {
    test(`with ${what} closes the connection without a response while an earlier request is pending`, () =>
      Effect.gen(function* () {
        const { open, started } = yield* serving()
        const { closed, send } = yield* open()
        send(RawHttp.get("/hang"))
        yield* started
        send(text)
        assert.strictEqual(yield* closed, "")
      }))
  }

  test("with CONNECT whose client resets the connection leaves the server working", () =>
    Effect.gen(function* () {
      const { edge, port } = yield* listening
      const { closed, send, socket } = yield* RawHttp.open(port)
      edge.server.prependListener("connect", () => socket.resetAndDestroy())
      send(connect)
      yield* closed
      yield* eventually(Effect.sync(() => assert.strictEqual(edge.connections.counts.connections, 0)))
      const next = yield* RawHttp.open(port)
      next.send(RawHttp.get())
      yield* next.until("ok")
    }))

  test("with a malformed Host is answered with 400", () =>
    Effect.gen(function* () {
      const { open } = yield* serving()
      for (const host of [
        "a b",
        "a,\tb",
        "a:b",
        "a:80:80",
        "::1",
        "[::1",
        "[::1]a",
        "[g]",
        "a\\b",
        'a"b',
        "a?b",
        "a#b",
        "ä"
      ]) {
        const { closed, send } = yield* open()
        send(RawHttp.get("/", ["Connection: close"], host))
        assert.deepStrictEqual(RawHttp.statuses(yield* closed), [400], host)
      }
    }))
})

describe("a valid request", () => {
  test("of HTTP/1.0 without a Host header is answered with 200", () =>
    Effect.gen(function* () {
      const { open } = yield* serving()
      const { closed, send } = yield* open()
      send("GET / HTTP/1.0\r\n\r\n")
      assert.deepStrictEqual(RawHttp.statuses(yield* closed), [200])
    }))

  test("with the maximum number of headers is answered with 200", () =>
    Effect.gen(function* () {
      const { open } = yield* serving()
      const { send, until } = yield* open()
      // one more than these: Host
      send(RawHttp.get("/", numbered(127)))
      assert.deepStrictEqual(RawHttp.statuses(yield* until("ok")), [200])
    }))

  test("with any valid form of Host is answered with 200", () =>
    Effect.gen(function* () {
      const { open } = yield* serving()
      for (const host of ["a", "a.b:80", "[::1]", "[::1]:80", "a_b", "127.0.0.1:", ""]) {
        const { send, until } = yield* open()
        send(RawHttp.get("/", [], host))
        assert.deepStrictEqual(RawHttp.statuses(yield* until("ok")), [200], host)
      }
    }))

  test("is answered with 200 if its body is not read, with or without Expect: 100-continue", () =>
    Effect.gen(function* () {
      const { open } = yield* serving()
      const whole = yield* open()
      whole.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: trailer\r\n\r\n")
      yield* whole.until("ok")
      whole.send(RawHttp.get())
      assert.deepStrictEqual(RawHttp.statuses(yield* whole.until("ok", 2)), [200, 200])
      const waiting = yield* open()
      waiting.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
      // there is no 100 before it
      const answer = yield* waiting.closed
      assert.deepStrictEqual(RawHttp.statuses(answer), [200])
      assert.match(answer, /connection: close\r\n/i)
    }))
})

describe("the counters of rejections", () => {
  type Scraped = ReturnType<typeof parse>
  const counted = ({ samples }: Scraped, name: string) =>
    Object.fromEntries(
      samples.flatMap((sample) =>
        sample.name === name ? [[sample.labels["error_type"] ?? sample.labels["reason"], sample.value]] : []
      )
    )
  const unread = ["headers too large", "chunk extensions too large", "timeout", "no valid request", "CONNECT"]
  const read = [
    "too many headers",
    "no Host",
    "several Hosts",
    "a broken Host",
    "a Host that is not served",
    "an expectation",
    "too many requests of a connection",
    "too many requests of an address",
    "overload"
  ]
  const zeros = (reasons: ReadonlyArray<string>) => Object.fromEntries(reasons.map((reason) => [reason, 0]))
  const closed = zeros([
    "connection limit",
    "address limit",
    "pipelining",
    "unread answers",
    "unread timeout",
    "accept failed"
  ])

  test("start with a series at 0 for each reason", () =>
    Effect.gen(function* () {
      const metrics = yield* (yield* serving()).scrape
      assert.deepStrictEqual(counted(metrics, "http_server_connections_refused_total"), closed)
      // rejections of requests that were parsed are counted in the duration histogram
      assert.deepStrictEqual(counted(metrics, "http_server_refused_requests_total"), zeros(unread))
    }))

  test("of the admin port start with the same series", () =>
    Effect.gen(function* () {
      yield* Layer.build(AdminServer.layer({ host: "127.0.0.1", port: 0 }).pipe(Layer.provide(Drain.layerTest())))
      const metrics = parse(yield* PrometheusMetrics.format({ metricNameMapper: prometheusName }))
      assert.deepStrictEqual(counted(metrics, "http_server_connections_refused_total"), closed)
      assert.deepStrictEqual(counted(metrics, "http_server_refused_requests_total"), zeros([...unread, ...read]))
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))
})

describe("pipelined requests", () => {
  test("are answered up to maxRequestsPerConnection, then one with 503 that closes the connection", () =>
    Effect.gen(function* () {
      const { open, release, scrape, started } = yield* serving({ maxRequestsPerConnection: 3 })
      const { closed, send } = yield* open()
      send(RawHttp.get("/hang").repeat(5))
      yield* started
      yield* release
      const answer = yield* closed
      assert.deepStrictEqual(RawHttp.statuses(answer), [200, 200, 200, 503])
      assert.match(answer, /503 .*\r\n(.*\r\n)*retry-after: 1\r\n/i)
      const { total } = yield* scrape
      assert.strictEqual(total("http_server_request_duration_seconds_count"), 4)
    }))

  test("count towards maxRequestsPerConnection only until they are answered", () =>
    Effect.gen(function* () {
      const { open } = yield* serving({ maxRequestsPerConnection: 1 })
      const { send, until } = yield* open()
      for (let count = 1; count <= 20; count++) {
        send(RawHttp.get())
        assert.strictEqual(RawHttp.statuses(yield* until("ok", count)).length, count)
      }
    }))

  test("are all interrupted on a flood, and when their client disconnects", () =>
    Effect.gen(function* () {
      const { interrupted, open, scrape, started } = yield* serving({ maxRequestsPerConnection: 3 })
      const flood = yield* open()
      flood.send(RawHttp.get("/hang").repeat(2_000))
      assert.strictEqual(yield* flood.closed, "")
      for (let count = 0; count < 3; count++) yield* interrupted
      const gone = yield* open()
      gone.send(RawHttp.get("/hang").repeat(3))
      for (let count = 0; count < 6; count++) yield* started
      gone.socket.destroy()
      for (let count = 0; count < 3; count++) yield* interrupted
      yield* eventually(
        Effect.map(scrape, ({ total }) => {
          assert.strictEqual(total("http_server_active_requests"), 0)
          assert.strictEqual(total("http_server_open_connections"), 0)
          assert.strictEqual(total("http_server_unread_answer_bytes"), 0)
        })
      )
    }))
})

describe("the unused connections of a flooding client", () => {
  test("are read one after the other, at intervals", () =>
    Effect.gen(function* () {
      const { open } = yield* serving()
      const unused = yield* Effect.all(Array.from({ length: 8 }, () => open()))
      const flood = yield* open()
      const startedAt = performance.now()
      flood.send(RawHttp.get("/hang").repeat(2_000))
      yield* flood.closed
      for (const { send } of unused) send(RawHttp.get())
      for (const { until } of unused) assert.deepStrictEqual(RawHttp.statuses(yield* until("ok")), [200])
      // eight connections, 200 ms apart
      assert.isAtLeast(performance.now() - startedAt, 1_550)
    }))
})

describe("concurrent requests of all connections", () => {
  test("above maxConcurrentRequests are answered with 503 at once, and observed once", () =>
    Effect.gen(function* () {
      const { logs, open, release, scrape, spans, started } = yield* serving({ maxConcurrentRequests: 2 })
      const accepted = yield* Effect.all([open(), open()])
      for (const { send } of accepted) {
        send(RawHttp.get("/hang"))
        yield* started
      }
      const { send, until } = yield* open()
      send(RawHttp.get())
      const answer = yield* until("unavailable")
      assert.deepStrictEqual(RawHttp.statuses(answer), [503])
      assert.match(answer, /retry-after: 1\r\n/i)
      assert.match(answer, /x-content-type-options: nosniff\r\n/i)
      const { total } = yield* scrape
      const labels = { http_response_status_code: "503", http_route: "/", http_request_method: "GET" }
      assert.strictEqual(total("http_server_request_duration_seconds_count", labels), 1)
      assert.deepStrictEqual(
        spans.spans
          .map(({ attributes }) => attributes.get("http.response.status_code"))
          .filter((status) => status === 503),
        [503]
      )
      assert.strictEqual(logs.lines().filter(({ annotations }) => annotations["reason"] === "overload").length, 1)
      yield* release
      for (const { until } of accepted) assert.deepStrictEqual(RawHttp.statuses(yield* until("ok")), [200])
      send(RawHttp.get())
      assert.deepStrictEqual(RawHttp.statuses(yield* until("ok")), [503, 200])
    }))

  test("above maxConcurrentRequests with a body are answered with 503, and close the connection", () =>
    Effect.gen(function* () {
      const { open, started } = yield* serving({ maxConcurrentRequests: 1 })
      const accepted = yield* open()
      accepted.send(RawHttp.get("/hang"))
      yield* started
      for (const header of ["Content-Length: 9", "Transfer-Encoding: chunked"]) {
        const { closed, send } = yield* open()
        send(`POST / HTTP/1.1\r\nHost: a\r\n${header}\r\n\r\n`)
        const answer = yield* closed
        assert.deepStrictEqual(RawHttp.statuses(answer), [503])
        assert.match(answer, /connection: close\r\n/i)
      }
      const { send, until } = yield* open()
      send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
      assert.match(yield* until("unavailable"), /connection: keep-alive\r\n/i)
    }))

  test("do not include those whose response is complete but unread", () =>
    Effect.gen(function* () {
      const { open } = yield* serving({ maxConcurrentRequests: 1 })
      const unread = yield* open()
      unread.socket.pause()
      unread.send(RawHttp.get("/large"))
      const { send, until } = yield* open()
      send(RawHttp.get())
      assert.deepStrictEqual(RawHttp.statuses(yield* until("ok")), [200])
    }))
})

describe("connections", () => {
  test("above maxConnections evict the one that has been idle longest, of the address that holds most", () =>
    Effect.gen(function* () {
      const { open, scrape, started } = yield* serving({ maxConnections: 5 })
      const oldest = yield* open("127.0.0.2")
      oldest.send(RawHttp.get())
      yield* oldest.until("ok")
      const busy = yield* open("127.0.0.3")
      busy.send(RawHttp.get("/hang"))
      yield* started
      const half = yield* open("127.0.0.3")
      half.send("GET / HTTP")
      const silent = yield* open("127.0.0.3")
      const used = yield* open("127.0.0.3")
      used.send(RawHttp.get())
      yield* used.until("ok")
      const newest = yield* open("127.0.0.4")
      newest.send(RawHttp.get())
      yield* newest.until("ok")
      yield* half.closed
      assert.deepStrictEqual(
        [oldest, busy, silent, used, newest].map(({ isOpen }) => isOpen()),
        [true, true, true, true, true]
      )
      const { total } = yield* scrape
      assert.strictEqual(total("http_server_connections_refused_total", { reason: "connection limit" }), 1)
      assert.strictEqual(total("http_server_open_connections"), 5)
    }))

  test("from many addresses, idle or with half a request, are evicted in favour of a well-behaved client", () =>
    Effect.gen(function* () {
      const { open, scrape } = yield* serving({ maxConnections: 40 })
      const kept = yield* open()
      for (let index = 0; index < 400; index++) {
        const attacker = yield* open(`127.0.${1 + Math.floor(index / 200)}.${1 + (index % 200)}`)
        if (index % 2 === 0) attacker.send("GET / HTTP")
        if (index % 20 > 0) continue
        // a well-behaved client keeps its connection and gets new ones
        const another = yield* open()
        for (const [{ send, until }, times] of [
          [another, 1],
          [kept, index / 20 + 1]
        ] as const) {
          send(RawHttp.get())
          assert.deepStrictEqual(
            RawHttp.statuses(yield* until("ok", times)),
            Array.from({ length: times }, () => 200)
          )
        }
        another.socket.destroy()
        yield* another.closed
      }
      const { total } = yield* scrape
      const closed = total("http_server_connections_refused_total", { reason: "connection limit" })
      assert.isAtLeast(closed, 360)
      assert.strictEqual(total("http_server_connections_refused_total"), closed)
      assert.strictEqual(total("http_server_open_connections"), 40)
    }))

  test("above maxConnections are answered with 503 when all others have a request in flight", () =>
    Effect.gen(function* () {
      const { open, started } = yield* serving({ maxConnections: 1 })
      const busy = yield* open()
      busy.send(RawHttp.get("/hang"))
      yield* started
      const refused = yield* open()
      const answer = yield* refused.closed
      assert.deepStrictEqual(RawHttp.statuses(answer), [503])
      assert.include(answer, "Retry-After: 1\r\n")
      assert.isTrue(busy.isOpen())
    }))

  test("are limited to half of the process's file descriptors, with a warning", () =>
    Effect.gen(function* () {
      const limit = yield* FileDescriptors.limit
      if (Option.isNone(limit)) return
      const { logs, scrape } = yield* serving({ maxConnections: limit.value })
      const { total } = yield* scrape
      assert.strictEqual(total("http_server_connection_limit"), Math.floor(limit.value / 2))
      const lowered = `HTTP connection limit lowered from ${limit.value} to ${Math.floor(limit.value / 2)}: `
      assert.isTrue(logs.lines().some(({ message }) => String(message).startsWith(lowered)))
    }))

  test("of trusted proxies are evicted last", () =>
    Effect.gen(function* () {
      const { open } = yield* serving({ maxConnections: 4, trusted: "127.0.0.2" })
      const proxied = yield* Effect.all([open("127.0.0.2"), open("127.0.0.2"), open("127.0.0.2")])
      const direct = yield* open("127.0.0.3")
      const newest = yield* open("127.0.0.4")
      yield* direct.closed
      newest.send(RawHttp.get())
      yield* newest.until("ok")
      assert.isTrue(proxied.every(({ isOpen }) => isOpen()))
    }))

  test("are limited by maxConnectionsPerAddress, behind trusted proxies by the forwarded address", () =>
    Effect.gen(function* () {
      const limits = { maxConnectionsPerAddress: Option.some(1), trusted: "127.0.0.2" }
      const { open, started } = yield* serving(limits)
      const first = yield* open("127.0.0.3")
      const second = yield* open("127.0.0.3")
      yield* first.closed
      second.send(RawHttp.get())
      yield* second.until("ok")
      const forwarded = (address: string) => [`X-Forwarded-For: ${address}`]
      const busy = yield* open("127.0.0.2")
      busy.send(RawHttp.get("/hang", forwarded("1.2.3.4")))
      yield* started
      const same = yield* open("127.0.0.2")
      same.send(RawHttp.get("/", forwarded("1.2.3.4")))
      assert.deepStrictEqual(RawHttp.statuses(yield* same.until("unavailable")), [503])
      const other = yield* open("127.0.0.2")
      other.send(RawHttp.get("/", forwarded("1.2.3.5")))
      assert.deepStrictEqual(RawHttp.statuses(yield* other.until("ok")), [200])
    }))

  test("with unread responses are closed after unreadTimeout, and earlier above maxUnreadSize", () =>
    Effect.gen(function* () {
      const patient = yield* serving({ unreadTimeout: Duration.seconds(2) })
      const stalled = yield* patient.open()
      stalled.socket.pause()
      stalled.send(RawHttp.get("/large"))
      yield* eventually(
        Effect.map(patient.scrape, ({ total }) => {
          assert.strictEqual(total("http_server_connections_refused_total", { reason: "unread timeout" }), 1)
          assert.strictEqual(total("http_server_unread_answer_bytes"), 0)
        })
      )
      const full = yield* serving({ maxUnreadSize: 10 * 1024 * 1024 })
      const older = yield* full.open()
      older.socket.pause()
      older.send(RawHttp.get("/large"))
      yield* eventually(
        Effect.gen(function* () {
          const newer = yield* full.open()
          newer.socket.pause()
          newer.send(RawHttp.get("/large"))
          // until both have their responses, or one of them is closed
          yield* eventually(
            Effect.map(full.scrape, ({ total }) => {
              const refused = total("http_server_connections_refused_total", { reason: "unread answers" })
              assert.isTrue(refused >= 1 || total("http_server_unread_answer_bytes") >= 2 * large.length)
            })
          ).pipe(Effect.orDie)
          const { total } = yield* full.scrape
          assert.isAtLeast(total("http_server_connections_refused_total", { reason: "unread answers" }), 1)
          assert.isAtMost(total("http_server_unread_answer_bytes"), 8 * large.length)
        }).pipe(Effect.scoped)
      )
    }))
})

describe("the client of a request", () => {
  const clientOf = (trusted: string | undefined, headers: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const { open, spans } = yield* serving(trusted === undefined ? {} : { trusted })
      const { send, until } = yield* open()
      send(RawHttp.get("/?secret=1", headers))
      yield* until("ok")
      const [span] = spans.spans
      assert.isFalse(span!.attributes.has("url.query"))
      return ["client.address", "url.scheme"].map((name) => span!.attributes.get(name))
    })

  test("is the forwarded one if the peer is a trusted proxy, else the peer", () =>
    Effect.gen(function* () {
      const headers = ["X-Forwarded-For: 6.6.6.6, 1.2.3.4", "X-Forwarded-Proto: https"]
      assert.deepStrictEqual(yield* clientOf("127.0.0.0/8", headers), ["1.2.3.4", "https"])
      assert.deepStrictEqual(yield* clientOf("10.0.0.0/8", headers), ["127.0.0.1", "http"])
      assert.deepStrictEqual(yield* clientOf(undefined, headers), ["127.0.0.1", "http"])
    }))
})

describe("the admin port", () => {
  const statusOf = (host: string, bound: string) =>
    Effect.gen(function* () {
      const logs = Logs.recorder()
      yield* Layer.build(
        AdminServer.layer({ host: bound, port: 0 }).pipe(Layer.provide(Drain.layerTest()), Layer.provide(logs.layer))
      )
      const [, port] = /Admin server listening on http:\/\/[^\s"]+?:(\d+)\b/.exec(logs.text()) ?? []
      const { closed, send } = yield* RawHttp.open(Number(port))
      send(RawHttp.get("/livez", ["Connection: close"], host))
      return RawHttp.statuses(yield* closed)[0]
    })

  for (const host of ["localhost", "LOCALHOST:9102", "127.0.0.1:1", "127.1.2.3", "[::1]:9102"]) {
    test(`on loopback answers Host ${host}`, () =>
      Effect.map(statusOf(host, "127.0.0.1"), (status) => assert.strictEqual(status, 200)))
  }
  for (const host of [
    "evil.example",
    "localhost.evil.example:9102",
    "10.0.0.1",
    "127.0.0.1.evil.example",
    "[fd00::1]",
    ""
  ]) {
    test(`on loopback answers Host "${host}" with 421, but with 200 when bound to all addresses`, () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* statusOf(host, "127.0.0.1"), 421)
        assert.strictEqual(yield* statusOf(host, "0.0.0.0"), 200)
      }))
  }
})

describe("a draining server", () => {
  test("answers a request on a kept connection with Connection: close", () =>
    Effect.gen(function* () {
      const { edge, port } = yield* listening
      const { closed, send, until } = yield* RawHttp.open(port)
      send(RawHttp.get())
      assert.match(yield* until("ok"), /connection: keep-alive\r\n/i)
      edge.drain()
      send(RawHttp.get())
      const answers = yield* until("ok", 2)
      assert.deepStrictEqual(RawHttp.statuses(answers), [200, 200])
      assert.match(answers, /connection: close\r\n/i)
      yield* closed
    }))
})
