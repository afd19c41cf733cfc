/**
 * Limits the bytes that the calls of a server hold in memory, over all connections: what has arrived of requests, what has not been sent
 * of responses, and an allowance for each call.
 *
 * Above the limit, the client that holds most loses a call: the one that has waited longest for the client (for the rest of a request,
 * or for a response to be read), or else its oldest. A client that sends parts of large requests, or reads no responses, only evicts its
 * own calls.
 */
import { type Linked, LinkedList } from "../../collections/LinkedList.ts"

/** A call that holds memory. */
export interface Holder {
  /** Identifies the client. */
  readonly client: string
  /** The call is not counted any more, and has to release what it holds. Does not throw. */
  readonly evict: () => void
  /** Written by {@link CallBudget} only. */
  holding?: Holding | undefined
}

/** What a call holds. */
interface Holding extends Linked<Holding> {
  readonly call: Holder
  readonly client: Client
  bytes: number
  isWaiting: boolean
}

/** What the calls of a client hold. */
interface Client {
  readonly name: string
  bytes: number
  /** Calls that wait for the client, the longest waiting first. */
  readonly waiting: LinkedList<Holding>
  /** The others, the oldest first. */
  readonly active: LinkedList<Holding>
}

export interface CallBudget {
  /** Begins to count a call that holds so many bytes. False if they do not fit: the call is not counted. */
  readonly open: (call: Holder, bytes: number) => boolean
  /** A call holds so many bytes more; fewer if negative. It may be evicted for them. No-op if the call is not open. */
  readonly add: (call: Holder, bytes: number) => void
  /** Whether a call waits for its client: it is evicted before calls that do not. */
  readonly setWaiting: (call: Holder, isWaiting: boolean) => void
  /** A call holds nothing any more. No-op if it is not open. */
  readonly close: (call: Holder) => void
  /** Bytes that are held, and calls that have been evicted since the start. */
  readonly counts: () => { readonly bytes: number; readonly evicted: number }
}

export const make = (maxBytes: number): CallBudget => {
  const clients = new Map<string, Client>()
  let total = 0
  let evicted = 0

  const count = (holding: Holding, bytes: number) => {
    holding.bytes += bytes
    holding.client.bytes += bytes
    total += bytes
  }

  const close = (call: Holder) => {
    const { holding } = call
    if (holding === undefined) return
    call.holding = undefined
    count(holding, -holding.bytes)
    const { active, name, waiting } = holding.client
    const list = holding.isWaiting ? waiting : active
    list.remove(holding)
    if (active.size + waiting.size === 0) clients.delete(name)
  }

  /** The next call to be evicted. */
  const victim = (): Holder | undefined => {
    let most: Client | undefined
    for (const client of clients.values()) if (most === undefined || client.bytes > most.bytes) most = client
    return (most?.waiting.first ?? most?.active.first)?.call
  }

  /** Evicts calls until the others fit. False if this call would be the next one. */
  const fit = (call: Holder): boolean => {
    for (;;) {
      if (total <= maxBytes) return true
      const evictee = victim()
      if (evictee === undefined || evictee === call) return false
      close(evictee)
      evicted++
      evictee.evict()
    }
  }

  return {
    open: (call, bytes) => {
      const client = clients.get(call.client) ?? {
        name: call.client,
        bytes: 0,
        waiting: new LinkedList(),
        active: new LinkedList()
      }
      clients.set(client.name, client)
      const holding: Holding = { previous: undefined, next: undefined, call, client, bytes: 0, isWaiting: false }
      call.holding = holding
      client.active.add(holding)
      count(holding, bytes)
      if (fit(call)) return true
      close(call)
      return false
    },
    add: (call, bytes) => {
      if (call.holding === undefined) return
      count(call.holding, bytes)
      if (bytes <= 0 || fit(call)) return
      close(call)
      evicted++
      call.evict()
    },
    setWaiting: ({ holding }, isWaiting) => {
      if (holding === undefined || holding.isWaiting === isWaiting) return
      holding.isWaiting = isWaiting
      const { active, waiting } = holding.client
      const [from, to] = isWaiting ? [active, waiting] : [waiting, active]
      from.remove(holding)
      to.add(holding)
    },
    close,
    counts: () => ({ bytes: total, evicted })
  }
}
