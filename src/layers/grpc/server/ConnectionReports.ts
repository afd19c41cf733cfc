/**
 * Logs and counts what happens to the connections of a server.
 */
import { Effect, Metric } from "effect"

import * as LogRateLimiter from "../../telemetry/LogRateLimiter.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { Refusal } from "./ConnectionRefusal.ts"
import type { Secured } from "./ServerConnections.ts"
import * as ServerMetrics from "./ServerMetrics.ts"

const refusals = LogRateLimiter.make("refused connections")

/** A connection is not served, or closed at a limit. */
export const refused = ({ detail, reason }: Refusal, address: string): Effect.Effect<void> =>
  Effect.andThen(
    Metric.update(Metric.withAttributes(ServerMetrics.connectionsRefused, { reason }), 1),
    refusals.log(
      Effect.annotateLogs(Effect.logWarning(`Connection from ${address} refused: ${detail}`), { reason, address })
    )
  )

/** A connection has completed its TLS handshake. */
export const secured = ({ cipher, peer, version }: Secured): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logDebug(`TLS handshake with ${peer.address} completed: ${version}, ${cipher}`),
    PeerIdentity.annotations(peer)
  )

const acceptErrors = LogRateLimiter.make("errors of the listening socket", 1)

/** A connection could not be accepted. */
export const acceptFailed = (error: NodeJS.ErrnoException): Effect.Effect<void> =>
  Effect.andThen(
    Metric.update(Metric.withAttributes(ServerMetrics.acceptErrors, { error: error.code ?? "unknown" }), 1),
    acceptErrors.log(Effect.logError(`gRPC cannot accept connections: ${error.message}`))
  )
