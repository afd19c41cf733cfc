/**
 * Decides which requests reach the application: by their headers, and by the limits of concurrent requests, in total and for each client
 * behind a trusted proxy. The total limit adapts to the load of the process ({@link LoadShedder}). Refused requests have a reason and a
 * status.
 */
import type { IncomingMessage } from "node:http"

import { clientNetwork } from "../config/IpNetworks.ts"
import type { Exchange } from "./HttpConnections.ts"

/** A status and the reason for metrics and the log. */
export type Refusal = readonly [status: number, reason: string]

/** Refusals of requests whose headers were parsed. */
export const requestRefusals = {
  tooManyHeaders: [431, "too many headers"],
  noHost: [400, "no Host"],
  severalHosts: [400, "several Hosts"],
  brokenHost: [400, "a broken Host"],
  foreignHost: [421, "a Host that is not served"],
  expectation: [417, "an expectation"],
  connectionLimit: [503, "too many requests of a connection"],
  addressLimit: [503, "too many requests of an address"],
  overload: [503, "overload"]
} as const satisfies Readonly<Record<string, Refusal>>

/** Refusals of requests that Node's parser rejects, by the code of its error. */
export const parseFailures: Readonly<Record<string, Refusal>> = {
  HPE_HEADER_OVERFLOW: [431, "headers too large"],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, "chunk extensions too large"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "timeout"]
}

/** The refusal for all other errors of the parser. */
export const invalidRequest: Refusal = [400, "no valid request"]

export const connectRefusal: Refusal = [405, "CONNECT"]

/** The reason phrases of all refusals. */
export const statusTexts: Readonly<Record<number, string>> = {
  400: "Bad request",
  405: "Method not allowed",
  408: "Request timeout",
  413: "Content too large",
  417: "Expectation failed",
  421: "Misdirected request",
  431: "Request header fields too large",
  503: "Service unavailable"
}

/** A complete response to write to a socket, for connections without a parsed request. It closes the connection. */
export const rawResponse = (status: number): string =>
  `HTTP/1.1 ${status} ${statusTexts[status]}\r\nConnection: close\r\nContent-Length: 0\r\n` +
  `${status === 503 ? "Retry-After: 1\r\n" : ""}\r\n`

/** A Host header: a host with or without a port (RFC 9110, section 7.2). */
const hostPattern = /^(\[[\da-fA-F:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d*)?$/

/** The maximum number of headers, more than any client sends. Node limits their size. */
const maxHeaders = 128

/**
 * Returns the refusal of a request with invalid headers; undefined if they are valid. `servesHost` returns whether a host, without its
 * port, is served; others are refused with 421 (RFC 9110, section 7.4).
 */
export const checkHeaders = (
  { headers, httpVersion, rawHeaders }: IncomingMessage,
  servesHost: ((host: string) => boolean) | undefined
): Refusal | undefined => {
  if (rawHeaders.length > 2 * maxHeaders) return requestRefusals.tooManyHeaders
  let hosts = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    if (name.length === 4 && name.toLowerCase() === "host") hosts++
  }
  if (hosts === 0) return httpVersion === "1.0" ? undefined : requestRefusals.noHost
  if (hosts > 1) return requestRefusals.severalHosts
  const [, host] = hostPattern.exec(headers.host ?? "") ?? []
  if (host === undefined) return requestRefusals.brokenHost
  return servesHost === undefined || servesHost(host) ? undefined : requestRefusals.foreignHost
}

/** Limits concurrent requests, in total and for each client behind a trusted proxy. */
export class RequestLimits {
  readonly #shedder: LoadShedder
  /** Concurrent requests per client behind a trusted proxy. */
  readonly #maxPerAddress: number
  /** Active requests by the network of the client. Empty without a limit. */
  readonly #active = new Map<string, number>()

  constructor(shedder: LoadShedder, maxPerAddress = Infinity) {
    this.#shedder = shedder
    this.#maxPerAddress = maxPerAddress
  }

  /** Acquires a slot for a request and releases it when the exchange ends. Returns the reason if the request is refused. */
  enter(exchange: Exchange, clientAddress: string): Refusal | undefined {
    const { connection, isLast } = exchange
    if (isLast) return requestRefusals.connectionLimit
    // connections of a client without a proxy are limited by HttpConnections
    const network = connection.isProxy && this.#maxPerAddress < Infinity ? clientNetwork(clientAddress) : undefined
    if (network !== undefined && !this.#enterNetwork(network)) return requestRefusals.addressLimit
    if (!this.#shedder.enter()) {
      if (network !== undefined) this.#leaveNetwork(network)
      return requestRefusals.overload
    }
    exchange.release =
      network === undefined
        ? this.#shedder.leave
        : () => {
            this.#leaveNetwork(network)
            this.#shedder.leave()
          }
    return undefined
  }

  #enterNetwork(network: string): boolean {
    const count = this.#active.get(network) ?? 0
    if (count >= this.#maxPerAddress) return false
    this.#active.set(network, count + 1)
    return true
  }

  #leaveNetwork(network: string): void {
    const count = this.#active.get(network) ?? 0
    if (count > 1) this.#active.set(network, count - 1)
    else this.#active.delete(network)
  }
}

/**
 * Load shedding: adapts the limit of concurrent requests to the delay of the event loop, as CoDel (RFC 8289) does with the delay of a
 * queue: while every measurement of an interval exceeds the target, the CPU is overloaded, and the limit is reduced by a third; otherwise
 * it grows again. Excess requests are refused immediately, so that accepted ones are answered in time.
 *
 * Requests that wait for a backend do not delay the event loop: only the maximum limits them. Synchronous requests never overlap, so a
 * concurrency limit cannot bound them; they queue in the kernel. Therefore each turn of the event loop accepts requests only for a limited
 * time, and refuses the other requests that it has received.
 */
export interface LoadShedder {
  /** Acquires a slot for a request; false if the request must be refused. */
  readonly enter: () => boolean
  /** Releases a slot. */
  readonly leave: () => void
  readonly counts: () => { readonly active: number; readonly limit: number }
  /** Stops measuring. */
  readonly close: () => void
}

/** How often the delay is measured, in milliseconds. */
const period = 20

/** The maximum delay of the event loop without overload, in milliseconds. */
const target = 25

/** How long the delay must exceed the target for an overload, in milliseconds. */
const interval = 100

/** The lowest limit, so that a short burst is accepted while other processes use the CPU. */
const minimum = 32

/** The initial limit, low enough to detect a sudden overload before many requests have been accepted. */
const initial = 128

/** How long one turn of the event loop accepts requests, in milliseconds. */
const turnBudget = 100
const turnBudgetUnderOverload = 50

/** How many requests each turn accepts, however long it takes: a few are no overload, even if other processes use the CPU. */
const turnMinimum = 8

/** Timers, injectable for tests. */
export interface Timers {
  /** Calls a function every period, in milliseconds. */
  readonly every: (callback: () => void, period: number) => { readonly close: () => void }
  /** Calls a function once, after this turn of the event loop. */
  readonly afterTurn: (callback: () => void) => void
}

/** Creates a load shedder that admits at most `maximum` concurrent requests. */
export const makeLoadShedder = (maximum: number, timers: Timers): LoadShedder => {
  let active = 0
  let limit = Math.min(initial, maximum)
  /** The maximum of `active` in this interval. */
  let peak = 0
  let leastDelay = Infinity
  let measuredAt = performance.now()
  let intervalBeganAt = measuredAt

  let isOverloaded = false
  /** When this turn of the event loop received its first request. */
  let turnBeganAt: number | undefined
  let admittedInTurn = 0
  const endTurn = () => (turnBeganAt = undefined)

  /** `intervals` is how many have passed since the last adjustment: a long turn of the event loop spans several. */
  const adjust = (intervals: number) => {
    isOverloaded = leastDelay > target
    if (isOverloaded)
      limit = Math.max(Math.min(minimum, maximum), Math.floor(Math.min(limit, peak) * (2 / 3) ** intervals))
    else if (2 * peak >= limit) limit = Math.min(maximum, limit + Math.max(1, Math.floor(limit / 10)))
    // after an overload, it grows back to the initial limit
    else if (limit < initial) limit = Math.min(initial, maximum, limit + 1)
  }

  const timer = timers.every(() => {
    const now = performance.now()
    leastDelay = Math.min(leastDelay, now - measuredAt - period)
    measuredAt = now
    if (now - intervalBeganAt < interval) return
    adjust((now - intervalBeganAt) / interval)
    leastDelay = Infinity
    intervalBeganAt = now
    peak = active
  }, period)

  return {
    enter: () => {
      if (active >= limit) return false
      const now = performance.now()
      if (turnBeganAt === undefined) {
        turnBeganAt = now
        admittedInTurn = 0
        timers.afterTurn(endTurn)
      }
      const budget = isOverloaded ? turnBudgetUnderOverload : turnBudget
      if (now - turnBeganAt > budget && admittedInTurn >= turnMinimum) return false
      admittedInTurn++
      active++
      if (active > peak) peak = active
      return true
    },
    leave: () => {
      active--
    },
    counts: () => ({ active, limit }),
    close: timer.close
  }
}
