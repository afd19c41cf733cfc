/**
 * The metrics of an {@link HttpEdge}, and the log lines of requests and connections that it refuses. Lines are rate-limited, since clients
 * cause them.
 */
import { type Context, Effect, Metric } from "effect"

import * as Address from "../config/Address.ts"
import * as LogRateLimiter from "../telemetry/LogRateLimiter.ts"
import * as ObservableMetric from "../telemetry/ObservableMetric.ts"
import { type Reason, reasons } from "./HttpConnections.ts"
import { connectRefusal, invalidRequest, parseFailures, type Refusal, requestRefusals } from "./RequestAdmission.ts"

/** The reason for a connection that the operating system could not accept. */
export const acceptFailed = "accept failed"

export interface Refusals {
  /** Counts and logs a refused request. */
  readonly request: (refusal: Refusal, peer: string | undefined) => void
  /** Counts and logs a connection that was refused or closed by a limit. */
  readonly connection: (reason: Reason | typeof acceptFailed, peer: string) => void
}

/** `countsRequests` is false if the application's observer counts refused requests. */
export const makeRefusals = Effect.fnUntraced(function* (
  server: string,
  countsRequests: boolean,
  context: Context.Context<never>
): Effect.fn.Return<Refusals> {
  const runFork = Effect.runForkWith(context)
  const requestLines = LogRateLimiter.make("refused requests", 10)
  const connectionLines = LogRateLimiter.make("connections closed by a limit", 10)

  const requests = ([status, reason]: Refusal) =>
    Metric.counter("http_server_refused_requests_total", {
      description: "Requests that were refused before they reached the application",
      incremental: true,
      attributes: { server, "http.response.status_code": String(status), "error.type": reason }
    })
  const connections = (reason: Reason | typeof acceptFailed) =>
    Metric.counter("http_server_connections_refused_total", {
      description: "Connections that were closed or refused by a limit",
      incremental: true,
      attributes: { server, reason }
    })
  const counted = [
    ...Object.values(parseFailures),
    invalidRequest,
    connectRefusal,
    ...(countsRequests ? Object.values(requestRefusals) : [])
  ]
  // counters start at 0, so that a rate sees their first increase
  for (const refusal of counted) yield* Metric.update(requests(refusal), 0)
  for (const reason of [...reasons, acceptFailed] as const) yield* Metric.update(connections(reason), 0)

  return {
    request: (refusal, peer) => {
      requests(refusal).updateUnsafe(1, context)
      const [status, reason] = refusal
      const line = Effect.annotateLogs(Effect.logInfo("HTTP request refused"), {
        server,
        status,
        reason,
        ...(peer === undefined ? {} : { peer: Address.unmapped(peer) })
      })
      runFork(requestLines.log(line))
    },
    connection: (reason, peer) => {
      connections(reason).updateUnsafe(1, context)
      const line = Effect.logWarning("HTTP connection closed by a limit")
      runFork(connectionLines.log(Effect.annotateLogs(line, { server, reason, peer: Address.unmapped(peer) })))
    }
  }
})

/** Registers the gauges of a server. */
export const observe = (
  server: string,
  gauges: {
    readonly connections: () => number
    readonly maxConnections: number
    readonly requestLimit: () => number
    readonly unreadSize: () => number
  }
) =>
  ObservableMetric.gauges(
    [
      ["http_server_open_connections", "Open connections", gauges.connections],
      ["http_server_connection_limit", "The maximum number of open connections", () => gauges.maxConnections],
      [
        "http_server_request_limit",
        "The maximum number of concurrent requests; it decreases under overload",
        gauges.requestLimit
      ],
      ["http_server_unread_answer_bytes", "Bytes of responses that clients have not read yet", gauges.unreadSize]
    ],
    { server }
  )
