/**
 * The address that a server listens on, and the error when it cannot.
 */
import { Schema } from "effect"

import * as Address from "../config/Address.ts"

/** The address that a server listens on. */
export interface ListenOptions {
  /** A DNS name or an IP address. Undefined listens on all addresses, IPv6 included where available. */
  readonly host?: string | undefined
  /** 0 selects a free port. */
  readonly port: number
  /** The environment variables of host and port, for error messages. */
  readonly variables?: { readonly host: string; readonly port: string } | undefined
}

/** The server cannot listen on its address. The message is one line for an operator. */
export class ListenError extends Schema.TaggedError<ListenError>()("ListenError", {
  message: Schema.String,
  cause: Schema.Defect()
}) {}

/** Converts an error of `listen` into a message that names the variable at fault, its value and what was expected. */
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
