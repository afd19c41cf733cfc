/**
 * Logs and counts the events of a server's connections.
 */
import { Effect, Metric } from "effect"

import * as LogRateLimiter from "../../telemetry/LogRateLimiter.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { Refusal } from "./ConnectionRefusal.ts"
import type { Secured } from "./ServerConnections.ts"
import * as ServerMetrics from "./ServerMetrics.ts"

const refusals = LogRateLimiter.make("refused connections")

/** Reports a connection that is not served, or is closed because of a limit. */
export const refused = ({ detail, reason }: Refusal, address: string): Effect.Effect<void> =>
  Effect.andThen(
    Metric.update(Metric.withAttributes(ServerMetrics.connectionsRefused, { reason }), 1),
    refusals.log(Effect.annotateLogs(Effect.logWarning("Connection refused"), { reason, detail, address }))
  )

/** Reports a connection that has completed its TLS handshake. */
export const secured = ({ cipher, peer, version }: Secured): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logDebug("TLS handshake completed"), {
    version,
    cipher,
    ...PeerIdentity.annotations(peer)
  })

const acceptErrors = LogRateLimiter.make("errors of the listening socket", 1)

/** Reports a connection that could not be accepted. */
export const acceptFailed = (error: NodeJS.ErrnoException): Effect.Effect<void> =>
  Effect.andThen(
    Metric.update(Metric.withAttributes(ServerMetrics.acceptErrors, { error: error.code ?? "unknown" }), 1),
    acceptErrors.log(
      Effect.annotateLogs(Effect.logError("Accepting a gRPC connection failed"), { error: error.message })
    )
  )
