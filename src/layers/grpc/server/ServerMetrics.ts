/**
 * The metrics of a server's connections and load, and the log lines of its connections. The metrics of calls are those of the interceptor
 * `Metrics`.
 */
import { Effect, Metric } from "effect"

import * as LogRateLimiter from "../../telemetry/LogRateLimiter.ts"
import * as ObservableMetric from "../../telemetry/ObservableMetric.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { Limits } from "../GrpcServer.ts"
import type { AdmissionControl } from "./AdmissionControl.ts"
import type { CallBudget } from "./CallBudget.ts"
import * as ConnectionRefusal from "./ConnectionRefusal.ts"
import type { Secured, ServerConnections } from "./ServerConnections.ts"

/** Calls that were shed because the server was saturated. */
export const shed = Metric.counter("grpc_server_calls_shed_total", {
  description: "Calls that were shed because the server was saturated",
  incremental: true
})

/** Connections that were not served or were closed at a limit, by the attribute `reason`. */
export const connectionsRefused = Metric.counter("grpc_server_connections_refused_total", {
  description: "Connections that were not served or were closed at a limit, by the reason.",
  incremental: true
})

/** Connections that could not be accepted, by the attribute `error`: the system's error, such as EMFILE. */
const acceptErrors = Metric.counter("grpc_server_accept_errors_total", {
  description: "Connections that could not be accepted, by the error of the system",
  incremental: true
})

/** The errors of accept() when the process or the machine runs out of descriptors or memory. */
const resourceErrors = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]

/** Counters are exported as 0 from the start, so that their first increase is visible. */
const startAtZero = Effect.all(
  [
    Metric.update(shed, 0),
    ...ConnectionRefusal.reasons.map((reason) =>
      Metric.update(Metric.withAttributes(connectionsRefused, { reason }), 0)
    ),
    ...resourceErrors.map((error) => Metric.update(Metric.withAttributes(acceptErrors, { error }), 0))
  ],
  { discard: true }
)

/** The parts of a server that are measured. */
export interface Observed {
  readonly admission: AdmissionControl
  readonly budget: CallBudget
  readonly connections: ServerConnections
  readonly limits: Limits
}

/** Exports the metrics of a server until the scope closes. */
export const observe = Effect.fnUntraced(function* ({ admission, budget, connections, limits }: Observed) {
  yield* startAtZero
  yield* ObservableMetric.gauges([
    ["grpc_server_connections", "Connections that are open", () => connections.counts().open],
    ["grpc_server_connections_limit", "The maximum number of open connections", () => limits.maxConnections],
    [
      "grpc_server_tls_handshakes",
      "Connections that have not completed their TLS handshake",
      () => connections.counts().handshakes
    ],
    ["grpc_server_calls_in_flight", "Calls that have a slot", () => admission.counts().answering],
    ["grpc_server_calls_queued", "Calls that are queued for a slot", () => admission.counts().waiting],
    ["grpc_server_calls_limit", "The maximum number of calls that have a slot", () => limits.maxConcurrency],
    [
      "grpc_server_bytes_in_flight",
      "Memory of calls in bytes: requests and responses in flight, and an allowance for each call",
      () => budget.counts().bytes
    ],
    ["grpc_server_bytes_in_flight_limit", "The maximum memory of calls in bytes", () => limits.maxBytesInFlight]
  ])
  yield* ObservableMetric.counter(
    "grpc_server_calls_evicted_total",
    "Calls that were evicted because they stalled while the server was saturated",
    () => budget.counts().evicted
  )
})

const refusalLines = LogRateLimiter.make("refused connections")

/** Reports a connection that is not served, or is closed because of a limit. */
export const refused = ({ detail, reason }: ConnectionRefusal.Refusal, address: string): Effect.Effect<void> =>
  Effect.andThen(
    Metric.update(Metric.withAttributes(connectionsRefused, { reason }), 1),
    refusalLines.log(Effect.annotateLogs(Effect.logWarning("Connection refused"), { reason, detail, address }))
  )

/** Reports a connection that has completed its TLS handshake. */
export const secured = ({ cipher, peer, version }: Secured): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logDebug("TLS handshake completed"), {
    version,
    cipher,
    ...PeerIdentity.annotations(peer)
  })

const acceptErrorLines = LogRateLimiter.make("errors of the listening socket", 1)

/** Reports a connection that could not be accepted. */
export const acceptFailed = (error: NodeJS.ErrnoException): Effect.Effect<void> =>
  Effect.andThen(
    Metric.update(Metric.withAttributes(acceptErrors, { error: error.code ?? "unknown" }), 1),
    acceptErrorLines.log(
      Effect.annotateLogs(Effect.logError("Accepting a gRPC connection failed"), { error: error.message })
    )
  )
