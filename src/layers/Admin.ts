/**
 * What a platform asks a process, on a port that readers do not see: whether it lives (/livez) and whether it should get
 * traffic (/readyz), as Kubernetes' probes do (https://kubernetes.io/docs/reference/using-api/health-checks/), and how it is
 * doing (/metrics), as Prometheus does (https://prometheus.io/docs/instrumenting/exposition_formats/).
 *
 * It is there before what takes time to start, and after everything else has closed: whatever serves is provided with it.
 */
import { createServer } from "node:http"

import { NodeHttpServer } from "@effect/platform-node"
import { Config, Effect, Layer, Option } from "effect"
import { HttpMiddleware, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"

import { Drain } from "./Drain.ts"
import { fromCause, type ListenError, type ListenOptions } from "./ListenError.ts"
import * as MetricNames from "./MetricNames.ts"
import * as Observed from "./Observed.ts"
import * as Setting from "./Setting.ts"

/** The address under a prefix: `<prefix>_ADMIN_HOST` (127.0.0.1) and `<prefix>_ADMIN_PORT`. */
export const settings = (prefix: string, defaultPort: number): Config.Config<ListenOptions> =>
  Config.all({
    host: Setting.host(`${prefix}_ADMIN_HOST`).pipe(Config.map(Option.getOrElse(() => "127.0.0.1"))),
    port: Setting.port(`${prefix}_ADMIN_PORT`, defaultPort),
    variables: Config.succeed({ host: `${prefix}_ADMIN_HOST`, port: `${prefix}_ADMIN_PORT` })
  })

/** Serves the probes and the metrics. Its connections are cut when it closes, which is when there is nothing left to say. */
export const layer = (options: ListenOptions): Layer.Layer<never, ListenError, Drain> => {
  const server = createServer()
  const listening = Layer.effect(
    HttpServer.HttpServer,
    Effect.mapError(
      NodeHttpServer.make(() => server, { port: options.port, host: options.host, disablePreemptiveShutdown: true }),
      ({ cause }) => fromCause(options, cause)
    )
  )
  const closing = Layer.effectDiscard(Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections())))
  return HttpServer.serve(app).pipe(
    Layer.provide(Layer.effectDiscard(Effect.andThen(observeDrain, announce))),
    // whoever probes is not traced
    Layer.provide(Layer.succeed(HttpMiddleware.TracerDisabledWhen, () => true)),
    Layer.provide(closing),
    Layer.provide(listening)
  )
}

/** As {@link layer}, by {@link settings}. */
export const layerConfig = (prefix: string, defaultPort: number) =>
  Layer.unwrap(Effect.map(settings(prefix, defaultPort), layer))

const announce = Effect.gen(function* () {
  const server = yield* HttpServer.HttpServer
  yield* Effect.logInfo(`Probes are answered on ${HttpServer.formatAddress(server.address)}`)
})

const observeDrain = Effect.gen(function* () {
  const { awaitDraining } = yield* Drain
  let isDraining = false
  yield* Observed.gauge("process_draining", "Whether the process has been asked to stop", () => (isDraining ? 1 : 0))
  yield* Effect.forkScoped(
    Effect.andThen(
      awaitDraining,
      Effect.sync(() => (isDraining = true))
    )
  )
})

const metrics = Effect.map(PrometheusMetrics.format({ metricNameMapper: MetricNames.toPrometheus }), (body) =>
  HttpServerResponse.text(body, { contentType: "text/plain; version=0.0.4; charset=utf-8" })
)

const app = Effect.gen(function* () {
  const { url } = yield* HttpServerRequest.HttpServerRequest
  switch (url.split("?")[0]) {
    case "/livez":
      return text(200, "ok")
    case "/metrics":
      return yield* metrics
    case "/readyz":
      return yield* readiness
    default:
      return text(404, "not found")
  }
})

const readiness = Effect.gen(function* () {
  const { isDraining, isStarted } = yield* Drain
  if (yield* isDraining) return text(503, "draining")
  return (yield* isStarted) ? text(200, "ok") : text(503, "starting")
})

const text = (status: number, body: string) =>
  HttpServerResponse.text(`${body}\n`, {
    status,
    contentType: "text/plain; charset=utf-8",
    headers: { "cache-control": "no-store" }
  })
