/**
 * A server that could not open its port.
 */
import { Schema } from "effect"

import * as Address from "../config/Address.ts"

/** Where a server is to listen. */
export interface ListenOptions {
  /** A name or an address; undefined is every address of the machine, those of IPv6 too where it has them. */
  readonly host?: string | undefined
  /** 0 lets the system pick one. */
  readonly port: number
  /** The environment variables that these came from, to be named when they do not work. */
  readonly variables?: { readonly host: string; readonly port: string } | undefined
}

/** Nobody can be served at that address. The message is one line, for an operator. */
export class ListenError extends Schema.TaggedError<ListenError>()("ListenError", {
  message: Schema.String,
  cause: Schema.Defect()
}) {}

/** Says which half of an address does not work, and what would. */
export const fromCause = ({ host, port, variables }: ListenOptions, cause: unknown): ListenError => {
  const text = String(cause)
  const address = Address.format({ host: host ?? "::", port })
  const badHost = (expected: string) => `${variables?.host ?? "host"}=${JSON.stringify(host)}: expected ${expected}`
  const badPort = (expected: string) => `${variables?.port ?? "port"}=${port}: expected ${expected}`
  const message = text.includes("EADDRINUSE")
    ? badPort(`a port that is free, but ${address} is in use${airPlay(port)}`)
    : text.includes("EACCES")
      ? badPort(`a port that this user may open, but ${address} is not`)
      : text.includes("EADDRNOTAVAIL")
        ? badHost("an address of this machine")
        : /ENOTFOUND|EAI_AGAIN|Name resolution failed/.test(text)
          ? badHost("the name of a host or an address")
          : `${address}: expected an address to listen on, but ${text}`
  return new ListenError({ message, cause })
}

const airPlay = (port: number): string =>
  process.platform === "darwin" && port === 5000
    ? " (on macOS by AirPlay Receiver, which System Settings can switch off under General, AirDrop & Handoff)"
    : ""
