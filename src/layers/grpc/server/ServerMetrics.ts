/**
 * The metrics of a server's connections and load. The metrics of calls are those of the interceptor `Metrics`.
 */
import { Effect, Metric } from "effect"

import * as ObservableMetric from "../../telemetry/ObservableMetric.ts"
import type { Limits } from "../GrpcServer.ts"
import type { AdmissionControl } from "./AdmissionControl.ts"
import type { CallBudget } from "./CallBudget.ts"
import * as ConnectionRefusal from "./ConnectionRefusal.ts"
import type { ServerConnections } from "./ServerConnections.ts"

/** Calls that were refused since there were too many. */
export const shed = Metric.counter("grpc_server_calls_shed_total", {
  description: "Calls that were refused since there were too many",
  incremental: true
})

/** Connections that were not served or were closed at a limit, by the attribute `reason`. */
export const connectionsRefused = Metric.counter("grpc_server_connections_refused_total", {
  description: "Connections that were not served or were closed at a limit, by the reason.",
  incremental: true
})

/** Connections that could not be accepted, by the attribute `error`: the system's error, such as EMFILE. */
export const acceptErrors = Metric.counter("grpc_server_accept_errors_total", {
  description: "Connections that could not be accepted, by the error of the system",
  incremental: true
})

/** The errors of accept() when the process or the machine runs out of descriptors or memory. */
const resourceErrors = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]

/** Counters are exported as 0 from the start, so that their first increase is seen. */
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

const observeConnections = (connections: ServerConnections, limits: Limits) =>
  Effect.all(
    [
      ObservableMetric.gauge("grpc_server_connections", "Connections that are open", () => connections.counts().open),
      ObservableMetric.gauge(
        "grpc_server_connections_limit",
        "How many connections are open at the same time at the most",
        () => limits.maxConnections
      ),
      ObservableMetric.gauge(
        "grpc_server_tls_handshakes",
        "Connections that have not completed their TLS handshake",
        () => connections.counts().handshakes
      )
    ],
    { discard: true }
  )

const observeCalls = (admission: AdmissionControl, limits: Limits) =>
  Effect.all(
    [
      ObservableMetric.gauge(
        "grpc_server_calls_in_flight",
        "Calls that are being answered, of those that the limit counts",
        () => admission.counts().answering
      ),
      ObservableMetric.gauge(
        "grpc_server_calls_queued",
        "Calls that wait for their turn",
        () => admission.counts().waiting
      ),
      ObservableMetric.gauge(
        "grpc_server_calls_limit",
        "How many calls are answered at the same time at the most",
        () => limits.maxConcurrency
      )
    ],
    { discard: true }
  )

const observeMemory = (budget: CallBudget, limits: Limits) =>
  Effect.all(
    [
      ObservableMetric.gauge(
        "grpc_server_bytes_in_flight",
        "Bytes that calls hold: requests and answers that are underway, and an allowance for each call",
        () => budget.counts().bytes
      ),
      ObservableMetric.gauge(
        "grpc_server_bytes_in_flight_limit",
        "How many bytes calls may hold at the most",
        () => limits.maxBytesInFlight
      ),
      ObservableMetric.counter(
        "grpc_server_calls_evicted_total",
        "Calls that waited for their client while others wanted the memory they held",
        () => budget.counts().evicted
      )
    ],
    { discard: true }
  )

/** What is measured of a server. */
export interface Observed {
  readonly admission: AdmissionControl
  readonly budget: CallBudget
  readonly connections: ServerConnections
  readonly limits: Limits
}

/** Exports the metrics of a server until the scope closes. */
export const observe = ({ admission, budget, connections, limits }: Observed) =>
  Effect.all(
    [
      startAtZero,
      observeConnections(connections, limits),
      observeCalls(admission, limits),
      observeMemory(budget, limits)
    ],
    { discard: true }
  )
