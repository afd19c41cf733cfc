/**
 * The routes of the admin port: /livez and /readyz for Kubernetes' probes
 * (https://kubernetes.io/docs/reference/using-api/health-checks/), and /metrics for Prometheus
 * (https://prometheus.io/docs/instrumenting/exposition_formats/).
 */
import { Effect } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"

import * as ObservableMetric from "../telemetry/ObservableMetric.ts"
import { prometheusName } from "../telemetry/prometheusName.ts"
import { Drain } from "./Drain.ts"

/** Answers a request to the admin port. /readyz is 503 until everything has started, and again while the process drains. */
export const adminRoutes = Effect.gen(function* () {
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

const metrics = Effect.map(PrometheusMetrics.format({ metricNameMapper: prometheusName }), (body) =>
  HttpServerResponse.text(body, { contentType: "text/plain; version=0.0.4; charset=utf-8" })
)

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

/** Registers the metric `process_draining` for as long as the scope is open. */
export const observeDraining = Effect.gen(function* () {
  const { awaitDraining } = yield* Drain
  let isDraining = false
  yield* ObservableMetric.gauge("process_draining", "1 after the process has received SIGTERM or SIGINT, else 0", () =>
    isDraining ? 1 : 0
  )
  yield* Effect.forkScoped(
    Effect.andThen(
      awaitDraining,
      Effect.sync(() => (isDraining = true))
    )
  )
})
