/**
 * The client of a request behind reverse proxies, by X-Forwarded-For and X-Forwarded-Proto, which are only honoured from a trusted
 * proxy.
 */
import { isIP } from "node:net"

import * as Address from "../config/Address.ts"
import type { IpNetworks } from "../config/IpNetworks.ts"

export interface Client {
  readonly address: string
  readonly scheme: "http" | "https"
}

type Headers = Readonly<Record<string, string | ReadonlyArray<string> | undefined>>

/**
 * The client behind a trusted proxy: the last hop of X-Forwarded-For that is not a trusted proxy itself, as with nginx's
 * `real_ip_recursive`. A hop that is not an IP address stops the search: neither it nor earlier hops come from a trusted proxy.
 */
export const behind = (trusted: IpNetworks, peer: string, headers: Headers): Client => ({
  address: lastUntrusted(trusted, peer, text(headers["x-forwarded-for"])),
  scheme: text(headers["x-forwarded-proto"]).split(",").at(-1)?.trim().toLowerCase() === "https" ? "https" : "http"
})

const text = (value: Headers[string]): string => (typeof value === "string" ? value : (value?.join(",") ?? ""))

/** The maximum number of hops that are examined. */
const maxHops = 32

const lastUntrusted = (trusted: IpNetworks, peer: string, header: string): string => {
  let known = peer
  const hops = header.split(",").slice(-maxHops)
  for (const hop of hops.toReversed()) {
    const address = parseHop(hop.trim())
    if (address === undefined) return known
    known = address
    if (!trusted.contains(address)) return known
  }
  return known
}

/** Parses an address, which some proxies write with its port, and IPv6 in brackets. */
const parseHop = (hop: string): string | undefined => {
  const [, bracketed, withPort] = /^(?:\[([^\]]*)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+)$/.exec(hop) ?? []
  const address = Address.unmapped(bracketed ?? withPort ?? hop)
  return isIP(address) !== 0 && !address.includes("%") ? address : undefined
}
