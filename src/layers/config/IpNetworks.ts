/**
 * Sets of IP networks in CIDR notation, such as those of trusted proxies, and the network that limits per client count.
 */
import { BlockList, isIP, isIPv6 } from "node:net"

import { Option } from "effect"

import * as Address from "./Address.ts"

/** A set of networks. */
export interface IpNetworks {
  /** Whether an IP address is in one of the networks. False for text that is not an IP address. */
  readonly contains: (address: string) => boolean
}

/** The empty set. */
export const none: IpNetworks = { contains: () => false }

/** Parses comma-separated networks in CIDR notation. An address without a prefix length is a network of one address. */
export const parse = (text: string): Option.Option<IpNetworks> => {
  const list = new BlockList()
  for (const part of text.split(",")) {
    const match = /^([^/]+?)(?:\/(\d{1,3}))?$/.exec(part.trim())
    const address = Address.unmapped(match?.[1] ?? "")
    const version = address.includes("%") ? 0 : isIP(address)
    const bits = version === 4 ? 32 : 128
    const prefix = match?.[2] === undefined ? bits : Number(match[2])
    if (version === 0 || prefix > bits) return Option.none()
    list.addSubnet(address, prefix, version === 4 ? "ipv4" : "ipv6")
  }
  return Option.some({
    contains: (address) => {
      const plain = Address.unmapped(address)
      const version = isIP(plain)
      return version !== 0 && list.check(plain, version === 4 ? "ipv4" : "ipv6")
    }
  })
}

/**
 * The key under which limits per client count an address: an IPv4 address itself, or the /64 network of an IPv6 address, since one
 * client usually has all addresses of a /64 (RFC 6177). Text that is not an IP address is its own key.
 */
export const clientNetwork = (host: string): string => {
  const address = Address.unmapped(host)
  if (!isIPv6(address)) return address
  const [head = "", tail] = address.replace(/%.*$/, "").split("::")
  const groups = head === "" ? [] : head.split(":")
  // "::" stands for the missing groups of zeros; the groups after it matter only if they are among the first four
  const after = tail === undefined || tail === "" ? [] : tail.split(":")
  const missing = 8 - groups.length - after.length - (after.at(-1)?.includes(".") === true ? 1 : 0)
  const all = tail === undefined ? groups : [...groups, ...Array.from({ length: missing }, () => "0"), ...after]
  const prefix = all.slice(0, 4).map((group) => parseInt(group, 16).toString(16))
  return `${prefix.join(":")}::/64`
}
