/**
 * Hosts and ports: formatting, validation and loopback detection.
 */
import { isIP } from "node:net"

/** A host and a port. */
export interface Address {
  /** A DNS name, or an IPv4 or IPv6 address without brackets. */
  readonly host: string
  readonly port: number
}

/** Formats as host:port, with brackets around an IPv6 address (RFC 3986, section 3.2.2). */
export const format = ({ host, port }: Address): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

/** The address at which a client on this machine reaches a server bound to `host`: localhost for a server bound to all addresses. */
export const toReachable = ({ host, port }: Address): Address => ({
  host: host === "::" || host === "0.0.0.0" ? "localhost" : host,
  port
})

/** Whether the text is an IP address or a syntactically valid DNS name. */
export const isHost = (text: string): boolean =>
  isIP(text) !== 0 || /^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?$/i.test(text)

/** Converts an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2), as dual-stack sockets report IPv4 peers, to the IPv4 address. */
export const unmapped = (host: string): string => host.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "")

/** Whether the host is a loopback address or localhost. Any other name is assumed to be reachable from other machines. */
export const isLoopback = (host: string): boolean =>
  /^localhost\.?$/i.test(host) || host === "::1" || (isIP(unmapped(host)) === 4 && unmapped(host).startsWith("127."))
