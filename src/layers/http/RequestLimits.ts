/**
 * The limits of concurrent requests: in total, adapted to the load of the process, and for each client behind a trusted proxy.
 */
import { clientNetwork } from "../config/IpNetworks.ts"
import type { Exchange } from "./HttpConnections.ts"
import { type Refusal, requestRefusals } from "./RequestRefusal.ts"

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
const target = 50

/** How long the delay must exceed the target for an overload, in milliseconds. */
const interval = 100

/** The lowest limit, so that a short burst is accepted while other processes use the CPU. */
const minimum = 32

/** The initial limit, low enough to detect a sudden overload before many requests have been accepted. */
const initial = 128

/** How long one turn of the event loop accepts requests, in milliseconds. */
const turnBudget = 250
const turnBudgetUnderOverload = 100

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
  const endTurn = () => (turnBeganAt = undefined)

  const adjust = () => {
    isOverloaded = leastDelay > target
    if (isOverloaded) limit = Math.max(Math.min(minimum, maximum), Math.floor((Math.min(limit, peak) * 2) / 3))
    else if (2 * peak >= limit) limit = Math.min(maximum, limit + Math.max(1, Math.floor(limit / 10)))
    // after an overload, it grows back to the initial limit
    else if (limit < initial) limit = Math.min(initial, maximum, limit + 1)
  }

  const timer = timers.every(() => {
    const now = performance.now()
    leastDelay = Math.min(leastDelay, now - measuredAt - period)
    measuredAt = now
    if (now - intervalBeganAt < interval) return
    adjust()
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
        timers.afterTurn(endTurn)
      }
      if (now - turnBeganAt > (isOverloaded ? turnBudgetUnderOverload : turnBudget)) return false
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
