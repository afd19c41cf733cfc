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

/**
 * Whom an address stands for where clients are counted: an IPv4 address for itself, an address of IPv6 for its /64, of which one
 * client usually has all.
 */
export const network = (host: string): string => {
  const address = unmapped(host)
  if (isIP(address) !== 6) return address
  const [head = "", tail] = address.replace(/%.*$/, "").split("::")
  const groups = head === "" ? [] : head.split(":")
  // "::" stands for as many zeros as are missing; what comes after it only matters if it reaches into the first four groups
  const after = tail === undefined || tail === "" ? [] : tail.split(":")
  const missing = 8 - groups.length - after.length - (after.at(-1)?.includes(".") === true ? 1 : 0)
  const all = tail === undefined ? groups : [...groups, ...Array.from({ length: missing }, () => "0"), ...after]
  const prefix = all.slice(0, 4).map((group) => parseInt(group, 16).toString(16))
  return `${prefix.join(":")}::/64`
}

/** Whether only this machine can reach that host. Names other than localhost count as reachable. */
export const isLoopback = (host: string): boolean =>
  /^localhost\.?$/i.test(host) || host === "::1" || (isIP(unmapped(host)) === 4 && unmapped(host).startsWith("127."))
