import { connect } from "node:net"

import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { HttpClient, HttpServer, HttpServerResponse } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import { PrometheusMetrics } from "effect/observability"

import type { App } from "../../../src/layers/http/HttpObserver.ts"
import * as WebServer from "../../../src/layers/http/WebServer.ts"
import { Drain } from "../../../src/layers/process/Drain.ts"
import { prometheusName } from "../../../src/layers/telemetry/prometheusName.ts"
import { parse } from "../../integration/Scrape.ts"

/** Serves an app on 127.0.0.1 in a scope of its own. */
const serve = Effect.fnUntraced(function* (app: App, drain: Layer.Layer<Drain>) {
  const scope = yield* Scope.make()
  const site = { app, routeOf: () => undefined, failed: HttpServerResponse.text("sorry", { status: 500 }) }
  const server = WebServer.serve({ host: "127.0.0.1", port: 0, trustsTraces: false })(Effect.succeed(site)).pipe(
    Layer.provide(drain)
  )
  const { address } = Context.get(yield* Layer.buildWithScope(server, scope), HttpServer.HttpServer)
  const port = NetAddress.isInetAddress(address) ? address.port : 0
  return { port, url: `http://127.0.0.1:${port}/`, close: Scope.close(scope, Exit.void) }
})

const ok = Effect.succeed(HttpServerResponse.text("ok"))

describe("WebServer", () => {
  it.live("answers with Connection: keep-alive, and stops listening once closed", () =>
    Effect.gen(function* () {
      const { close, url } = yield* serve(ok, Drain.layerTest())
      const response = yield* HttpClient.get(url)
      assert.strictEqual(yield* response.text, "ok")
      assert.strictEqual(response.headers["connection"], "keep-alive")
      yield* close
      assert.isTrue(Exit.isFailure(yield* Effect.exit(HttpClient.get(url))))
    }).pipe(Effect.provide(NodeHttpClient.layerUndici))
  )

  it.live("on close answers the request in flight with Connection: close", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const draining = yield* Deferred.make<void>()
      const slow = Deferred.succeed(started, undefined).pipe(
        Effect.andThen(Deferred.await(draining)),
        Effect.andThen(ok)
      )
      const { close, url } = yield* serve(
        slow,
        Layer.succeed(Drain, {
          isStarted: Effect.succeed(true),
          isDraining: Deferred.isDone(draining),
          awaitDraining: Deferred.await(draining),
          timeLeft: Effect.as(Deferred.succeed(draining, undefined), Duration.seconds(20))
        })
      )
      const asking = yield* Effect.forkChild(HttpClient.get(url))
      yield* Deferred.await(started)
      yield* close
      const response = yield* Fiber.join(asking)
      assert.strictEqual(yield* response.text, "ok")
      assert.strictEqual(response.headers["connection"], "close")
    }).pipe(Effect.provide(NodeHttpClient.layerUndici))
  )

  it.live("on close does not wait for idle connections", () =>
    Effect.gen(function* () {
      const { close, port, url } = yield* serve(ok, Drain.layerTest(Duration.seconds(20)))
      yield* Effect.callback<void>((resume) => {
        const socket = connect(port, "127.0.0.1", () => resume(Effect.void))
        socket.on("error", () => {})
      })
      // connections are accepted in turn
      yield* HttpClient.get(url)
      const [elapsed] = yield* Effect.timed(close)
      assert.isBelow(Duration.toMillis(elapsed), 10_000)
    }).pipe(Effect.provide(NodeHttpClient.layerUndici))
  )

  it.live("on close disconnects a client with an incomplete request after the drain's time", () =>
    Effect.gen(function* () {
      const { close, port } = yield* serve(ok, Drain.layerTest(Duration.millis(50)))
      const disconnected = yield* Deferred.make<void>()
      yield* Effect.callback<void>((resume) => {
        const socket = connect(port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\n", () => resume(Effect.void)))
        socket.on("error", () => {})
        socket.on("close", () => Deferred.doneUnsafe(disconnected, Effect.void))
      })
      yield* close
      yield* Deferred.await(disconnected)
    })
  )

  it.live("counts requests that it aborts as 503, and those that the client aborts as 499", () =>
    Effect.gen(function* () {
      for (const { status, end } of [
        { status: "503", end: "server" },
        { status: "499", end: "reader" }
      ]) {
        const registry: Metric.MetricRegistry = new Map()
        yield* Effect.gen(function* () {
          const started = yield* Deferred.make<void>()
          const seen = yield* Deferred.make<void>()
          const hang = Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.ensuring(Deferred.succeed(seen, undefined))
          )
          const { close, url } = yield* serve(hang, Drain.layerTest(Duration.zero))
          const request = yield* Effect.forkChild(Effect.exit(HttpClient.get(url)))
          yield* Deferred.await(started)
          if (end === "reader") {
            yield* Fiber.interrupt(request)
            yield* Deferred.await(seen)
          }
          yield* close
          yield* Fiber.await(request)
          const { total } = parse(yield* PrometheusMetrics.format({ metricNameMapper: prometheusName }))
          assert.strictEqual(total("http_server_request_duration_seconds_count"), 1)
          assert.strictEqual(
            total("http_server_request_duration_seconds_count", { http_response_status_code: status }),
            1,
            status
          )
        }).pipe(Effect.provideService(Metric.MetricRegistry, registry))
      }
    }).pipe(Effect.provide(NodeHttpClient.layerUndici))
  )
})
