/**
 * Limits the memory of the calls of a server, over all connections: received bytes of requests, unsent bytes of responses, and an
 * allowance per call.
 *
 * Above the limit, the client that holds most has a call evicted: the one that has waited longest for the client (for the rest of a
 * request, or for a response to be read), or else its oldest. A client that sends parts of large requests, or reads no responses, only
 * evicts its own calls.
 */
import { type Linked, LinkedList } from "../../collections/LinkedList.ts"

/** A call whose memory is counted. */
export interface BudgetedCall {
  /** Identifies the client. */
  readonly client: string
  /** Called when the call is evicted: it is no longer counted, and must release its memory. Does not throw. */
  readonly evict: () => void
  /** Written by {@link CallBudget} only. */
  holding?: Holding | undefined
}

/** The memory of a call. */
interface Holding extends Linked<Holding> {
  readonly call: BudgetedCall
  readonly client: Client
  bytes: number
  isWaiting: boolean
}

/** The memory of the calls of a client. */
interface Client {
  readonly name: string
  bytes: number
  /** Calls that wait for the client, the longest waiting first. */
  readonly waiting: LinkedList<Holding>
  /** The others, the oldest first. */
  readonly active: LinkedList<Holding>
}

export class CallBudget {
  /** In bytes. */
  readonly #maxBytes: number
  readonly #clients = new Map<string, Client>()
  /** The bytes of all calls. */
  #bytes = 0
  #evicted = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Starts counting a call of `bytes`. Returns false, and does not count it, if they do not fit. */
  open(call: BudgetedCall, bytes: number): boolean {
    let client = this.#clients.get(call.client)
    if (client === undefined) {
      client = { name: call.client, bytes: 0, waiting: new LinkedList(), active: new LinkedList() }
      this.#clients.set(client.name, client)
    }
    const holding: Holding = { previous: undefined, next: undefined, call, client, bytes, isWaiting: false }
    call.holding = holding
    client.active.add(holding)
    client.bytes += bytes
    this.#bytes += bytes
    if (this.#bytes <= this.#maxBytes || this.#makeRoom(call)) return true
    this.close(call)
    return false
  }

  /** Adds `bytes`, which may be negative, to a call. The call itself may be evicted. No-op if the call is not open. */
  add(call: BudgetedCall, bytes: number): void {
    const { holding } = call
    if (holding === undefined) return
    holding.bytes += bytes
    holding.client.bytes += bytes
    this.#bytes += bytes
    if (bytes > 0 && this.#bytes > this.#maxBytes && !this.#makeRoom(call)) this.#evict(call)
  }

  /** Sets whether a call waits for its client: such calls are evicted first. */
  setWaiting({ holding }: BudgetedCall, isWaiting: boolean): void {
    if (holding === undefined || holding.isWaiting === isWaiting) return
    holding.isWaiting = isWaiting
    const { active, waiting } = holding.client
    const [from, to] = isWaiting ? [active, waiting] : [waiting, active]
    from.remove(holding)
    to.add(holding)
  }

  /** Stops counting a call. No-op if it is not open. */
  close(call: BudgetedCall): void {
    const { holding } = call
    if (holding === undefined) return
    call.holding = undefined
    const { bytes, client, isWaiting } = holding
    const { active, name, waiting } = client
    client.bytes -= bytes
    this.#bytes -= bytes
    const list = isWaiting ? waiting : active
    list.remove(holding)
    if (active.size + waiting.size === 0) this.#clients.delete(name)
  }

  /** The bytes of open calls, and how many calls have been evicted since the start. */
  counts(): { readonly bytes: number; readonly evicted: number } {
    return { bytes: this.#bytes, evicted: this.#evicted }
  }

  /** Evicts other calls until the rest fits. Returns false if this call would be the next one. */
  #makeRoom(call: BudgetedCall): boolean {
    while (this.#bytes > this.#maxBytes) {
      const next = this.#nextToEvict()
      if (next === undefined || next === call) return false
      this.#evict(next)
    }
    return true
  }

  #nextToEvict(): BudgetedCall | undefined {
    let most: Client | undefined
    for (const client of this.#clients.values()) if (most === undefined || client.bytes > most.bytes) most = client
    return (most?.waiting.first ?? most?.active.first)?.call
  }

  #evict(call: BudgetedCall): void {
    this.close(call)
    this.#evicted++
    call.evict()
  }
}
