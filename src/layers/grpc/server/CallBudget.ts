/**
 * How many bytes the calls of a server may hold in memory, over all connections: what has arrived of their requests, what has not
 * been sent of their answers, and an allowance for each call.
 *
 * Above the limit, the client that holds most loses a call: the one that has waited for it the longest, for the rest of a request or
 * for an answer to be read, and if none does, its oldest. So a client that sends halves of large requests, or reads no answers, only
 * gets in its own way.
 */
import { type Linked, LinkedList } from "../../collections/LinkedList.ts"

/** A call that holds memory. */
export interface Holder {
  /** Identifies whose call it is. */
  readonly client: string
  /** It is closed here already, and has to let go of what it holds. */
  readonly evict: () => void
  /** {@link CallBudget}'s own. */
  holding?: Holding | undefined
}

/** What a call holds. */
class Holding implements Linked<Holding> {
  previous: Holding | undefined = undefined
  next: Holding | undefined = undefined
  readonly call: Holder
  readonly client: Client
  bytes = 0
  isWaiting = false

  constructor(call: Holder, client: Client) {
    this.call = call
    this.client = client
  }
}

/** What all calls of a client hold. */
class Client {
  readonly name: string
  bytes = 0
  /** Those that wait for the client, the one that does so for the longest first. */
  readonly waiting = new LinkedList<Holding>()
  /** The others, the oldest first. */
  readonly active = new LinkedList<Holding>()

  constructor(name: string) {
    this.name = name
  }
}

export interface CallBudget {
  /** Begins to count a call, with so many bytes. False: there is no room for it, and it is not counted. */
  readonly open: (call: Holder, bytes: number) => boolean
  /** A call holds so many bytes more, or less. It may be evicted because of them. */
  readonly add: (call: Holder, bytes: number) => void
  /** A call waits for its client, from now on: it is evicted before those that do not. */
  readonly wait: (call: Holder) => void
  /** It does not any more. */
  readonly resume: (call: Holder) => void
  /** A call is over, and holds nothing; a no-op if it is not open. */
  readonly close: (call: Holder) => void
  /** Bytes that are held now, and calls that have been evicted since the start. */
  readonly counts: () => { readonly bytes: number; readonly evicted: number }
}

export const make = (maxBytes: number): CallBudget => {
  const clients = new Map<string, Client>()
  let total = 0
  let evicted = 0

  const clientOf = (name: string): Client => {
    let client = clients.get(name)
    if (client === undefined) clients.set(name, (client = new Client(name)))
    return client
  }

  const count = (holding: Holding, bytes: number) => {
    holding.bytes += bytes
    holding.client.bytes += bytes
    total += bytes
  }

  const move = (holding: Holding, isWaiting: boolean) => {
    const { active, waiting } = holding.client
    if (holding.isWaiting === isWaiting) return
    holding.isWaiting = isWaiting
    const [from, to] = isWaiting ? [active, waiting] : [waiting, active]
    from.remove(holding)
    to.add(holding)
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

  /** The call that the client loses that holds most. */
  const victim = (): Holder | undefined => {
    let most: Client | undefined
    for (const client of clients.values()) if (most === undefined || client.bytes > most.bytes) most = client
    return (most?.waiting.first ?? most?.active.first)?.call
  }

  const isOver = () => total > maxBytes

  /** Evicts calls until what is held fits. False: it would be the turn of this one. */
  const fit = (call: Holder): boolean => {
    while (isOver()) {
      const evictee = victim()
      if (evictee === undefined || evictee === call) return false
      close(evictee)
      evicted++
      evictee.evict()
    }
    return true
  }

  return {
    open: (call, bytes) => {
      const client = clientOf(call.client)
      const holding = new Holding(call, client)
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
    wait: ({ holding }) => {
      if (holding !== undefined) move(holding, true)
    },
    resume: ({ holding }) => {
      if (holding !== undefined) move(holding, false)
    },
    close,
    counts: () => ({ bytes: total, evicted })
  }
}
