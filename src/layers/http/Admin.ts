/**
 * What a platform asks a process, on a port that readers do not see: whether it lives (/livez) and whether it should get
 * traffic (/readyz), as Kubernetes' probes do (https://kubernetes.io/docs/reference/using-api/health-checks/), and how it is
 * doing (/metrics), as Prometheus does (https://prometheus.io/docs/instrumenting/exposition_formats/).
 *
 * It is there before what takes time to start, and after everything else has closed: whatever serves is provided with it.
 */
import { Config, Effect, Layer, Option } from "effect"
import { HttpMiddleware, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import { PrometheusMetrics } from "effect/observability"

import * as IpNetworks from "../config/IpNetworks.ts"
import * as Setting from "../config/Setting.ts"
import { Drain } from "../process/Drain.ts"
import type { ListenError, ListenOptions } from "../process/ListenError.ts"
import * as MetricNames from "../telemetry/MetricNames.ts"
import * as ObservableMetric from "../telemetry/ObservableMetric.ts"
import * as HttpEdge from "./HttpEdge.ts"

/** The address from `<prefix>_ADMIN_HOST` and `<prefix>_ADMIN_PORT`. */
export const settings = (prefix: string, defaultPort: number): Config.Config<ListenOptions> =>
  Config.all({
    host: Setting.host(`${prefix}_ADMIN_HOST`, {
      description: "The address that the admin port listens on.",
      unset: "`127.0.0.1`"
    }).pipe(Config.map(Option.getOrElse(() => "127.0.0.1"))),
    port: Setting.port(`${prefix}_ADMIN_PORT`, {
      description: "The admin port: it serves `/livez`, `/readyz` and `/metrics`.",
      default: defaultPort
    }),
    variables: Config.succeed({ host: `${prefix}_ADMIN_HOST`, port: `${prefix}_ADMIN_PORT` })
  })

/** Platforms and monitoring ask one at a time; nobody else needs this port. */
const limits: HttpEdge.Limits = { ...HttpEdge.defaultLimits, maxConnections: 100, maxConcurrentRequests: 50 }

/** Serves the probes and the metrics. Its connections are cut when it closes, which is when there is nothing left to say. */
export const layer = (options: ListenOptions): Layer.Layer<never, ListenError, Drain> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      let isLocal = true
      const edge = yield* HttpEdge.make({
        name: "admin",
        limits,
        trustedProxies: IpNetworks.none,
        servesHost: (host) => !isLocal || isLocalHost(host)
      })
      const { address } = yield* HttpEdge.listen(edge, options)
      isLocal = NetAddress.isInetAddress(address) && IpNetworks.isLoopback(NetAddress.formatIp(address.address))
      yield* observeDrain
      yield* Effect.logInfo(`Probes are answered on ${HttpServer.formatAddress(address)}`)
      yield* HttpEdge.serveApp(edge, app).pipe(
        // whoever probes is not traced
        Effect.provideService(HttpMiddleware.TracerDisabledWhen, () => true)
      )
    })
  )

/**
 * Whether a Host is this machine. A page that a browser has from elsewhere can have its name resolve to a loopback address, and then
 * ask this port (DNS rebinding); its Host is still that name.
 */
const isLocalHost = (host: string): boolean =>
  host.toLowerCase() === "localhost" || IpNetworks.isLoopback(host.replace(/^\[(.*)\]$/, "$1"))

/** As {@link layer}, by {@link settings}. */
export const layerConfig = (prefix: string, defaultPort: number) =>
  Layer.unwrap(Effect.map(settings(prefix, defaultPort), layer))

const observeDrain = Effect.gen(function* () {
  const { awaitDraining } = yield* Drain
  let isDraining = false
  yield* ObservableMetric.gauge("process_draining", "Whether the process has been asked to stop", () =>
    isDraining ? 1 : 0
  )
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
