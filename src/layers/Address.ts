/**
 * Where servers listen, and where they are reached.
 */
import { isIP } from "node:net"

/** A host and a port. */
export interface Address {
  /** A name, or an address of IPv4 or IPv6 without brackets. */
  readonly host: string
  readonly port: number
}

/** host:port, with the brackets that an IPv6 address needs. */
export const format = ({ host, port }: Address): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

/** The address that a client on this machine uses for a server that listens: one on every address is on localhost too. */
export const toReachable = ({ host, port }: Address): Address => ({
  host: host === "::" || host === "0.0.0.0" ? "localhost" : host,
  port
})

/** Whether that is a host: an address, or a name that DNS could know. */
export const isHost = (text: string): boolean =>
  isIP(text) !== 0 || /^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?$/i.test(text)

/** An IPv4 address as itself, which a socket for both families shows as one of IPv6 (RFC 4291, section 2.5.5.2). */
export const unmapped = (host: string): string => host.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "")
