/**
 * Admission of requests: limits concurrent requests, in total and for each client behind a trusted proxy.
 */
import { clientNetwork } from "../config/IpNetworks.ts"
import type { Exchange } from "./HttpConnections.ts"
import type { LoadShedder } from "./LoadShedder.ts"
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
    exchange.release = () => {
      if (network !== undefined) this.#leaveNetwork(network)
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
