/**
 * IP addresses as a server counts and trusts them: networks by CIDR, and the network that one client is taken to have.
 */
import { BlockList, isIP } from "node:net"

import { Option } from "effect"

import * as Address from "./Address.ts"

/** A set of networks. */
export interface IpNetworks {
  /** Whether an IP address is in one of them. Text that is not an IP address is in none. */
  readonly contains: (address: string) => boolean
}

/** No networks at all. */
export const none: IpNetworks = { contains: () => false }

/** 127.0.0.0/8 and ::1. */
export const isLoopback = (address: string): boolean => loopback.contains(address)

/** Parses networks in CIDR notation with commas between them; an address without a prefix length is itself alone. */
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

const loopback = Option.getOrThrow(parse("127.0.0.0/8,::1"))

/**
 * What limits by address count as one client: an IPv4 address, or the /64 of an IPv6 address, since each network of IPv6 clients
 * has that many addresses (RFC 6177).
 */
export const clientNetwork = (address: string): string => {
  const plain = Address.unmapped(address)
  if (!plain.includes(":")) return plain
  const [head = "", tail] = plain.split("%")[0]!.split("::")
  const groups = head === "" ? [] : head.split(":")
  // "::" stands for as many zeros as are missing
  if (tail !== undefined) {
    const after = tail === "" ? [] : tail.split(":")
    while (groups.length + after.length < 8) groups.push("0")
    groups.push(...after)
  }
  return `${groups.slice(0, 4).join(":")}::/64`
}
