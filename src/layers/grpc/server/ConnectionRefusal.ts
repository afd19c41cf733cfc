/**
 * Why a server refuses or closes a connection, for the metric `grpc_server_connections_refused_total` and for the log.
 */
import type * as ConnectionTable from "./ConnectionTable.ts"

/** The values of the metric's attribute `reason`. */
export const reasons = [
  "no_certificate",
  "certificate_expired",
  "certificate_untrusted",
  "not_on_the_list",
  "certificate_revoked",
  "not_http2",
  "handshake_failed",
  "protocol_error",
  "too_many_connections",
  "too_many_connections_of_address",
  "too_many_handshakes",
  "too_many_handshakes_of_address"
] as const

export interface Refusal {
  readonly reason: (typeof reasons)[number]
  /** The cause in more detail, for the log. */
  readonly detail: string
}

const evictionReasons = {
  maxConnections: "too_many_connections",
  maxConnectionsPerAddress: "too_many_connections_of_address",
  maxHandshakes: "too_many_handshakes",
  maxHandshakesPerAddress: "too_many_handshakes_of_address"
} as const satisfies Record<ConnectionTable.Limit, Refusal["reason"]>

const limitNames = {
  maxConnections: "connection limit",
  maxConnectionsPerAddress: "connection limit per address",
  maxHandshakes: "TLS handshake limit",
  maxHandshakesPerAddress: "TLS handshake limit per address"
} as const satisfies Record<ConnectionTable.Limit, string>

const stateNames = {
  handshake: "during the TLS handshake",
  unused: "before the first call",
  idle: "while idle",
  busy: "with open calls"
} as const satisfies Record<ConnectionTable.State, string>

/** The refusal of a connection that was evicted from the table because of a limit. */
export const evicted = (
  limits: ConnectionTable.Limits,
  limit: ConnectionTable.Limit,
  state: ConnectionTable.State
): Refusal => ({
  reason: evictionReasons[limit],
  detail: `${limitNames[limit]} of ${limits[limit]} exceeded; evicted ${stateNames[state]}`
})
