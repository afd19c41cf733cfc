/**
 * How many calls a server runs at once, and whose. Above the limit a few calls wait, for a short time; the others are shed at once:
 * an answer that comes after its client has given up is wasted, and so is the slot that it took.
 *
 * Clients are served fairly: waiting calls get slots by round robin over their clients, a full queue sheds a call of the client that
 * has most waiting, and no client holds all slots. A call takes a slot when its request is complete, and gives it back when its
 * answer is made, so that a client that sends or reads slowly holds none.
 */
import { Duration } from "effect"

import { type Linked, LinkedList } from "../../collections/LinkedList.ts"
import type * as GrpcServer from "../GrpcServer.ts"

export interface Limits extends Pick<GrpcServer.Limits, "maxConcurrency" | "maxQueue" | "maxQueueWait"> {
  /**
   * What happens to a call when all slots are taken: it waits, or the client with most slots loses the oldest of its calls. The latter
   * is for calls that last for as long as their client likes, such as health watches.
   */
  readonly whenFull?: "wait" | "evict" | undefined
}

/** A call that asks for a slot. */
export interface Candidate {
  /** Identifies whose call it is: slots are shared between clients. */
  readonly client: string
  /** It has a slot. */
  readonly run: () => void
  /** It gets no slot. */
  readonly shed: () => void
  /** It has lost its slot. */
  readonly evict: () => void
  /** {@link AdmissionControl}'s own. */
  ticket?: Ticket | undefined
}

/** A call in the books of {@link AdmissionControl}. */
class Ticket implements Linked<Ticket> {
  previous: Ticket | undefined = undefined
  next: Ticket | undefined = undefined
  readonly call: Candidate
  readonly client: Client
  state: "queued" | "running" | "done" = "queued"
  /** When it has waited for long enough, by `performance.now()`. */
  expiresAt = Infinity
  /** Since when its handler waits for the client to read, by `performance.now()`; undefined if it does not. */
  pausedAt: number | undefined = undefined

  constructor(call: Candidate, client: Client) {
    this.call = call
    this.client = client
  }
}

/** A client that has calls here. */
class Client implements Linked<Client> {
  previous: Client | undefined = undefined
  next: Client | undefined = undefined
  readonly name: string
  /** The one that waits for the longest first. */
  readonly queued = new LinkedList<Ticket>()
  /** The one that runs for the longest first. */
  readonly running = new LinkedList<Ticket>()

  constructor(name: string) {
    this.name = name
  }
}

export interface AdmissionControl {
  /** Gives a call a slot and runs it, lets it wait, or sheds it. */
  readonly enter: (call: Candidate) => void
  /** A running call waits for its client to read. */
  readonly pause: (call: Candidate) => void
  /** It goes on. */
  readonly resume: (call: Candidate) => void
  /**
   * A call is done, and gives back its slot later, with {@link AdmissionControl.leave}. Until then the slot counts for its own client,
   * and for those that have many.
   */
  readonly finish: (call: Candidate) => void
  /** A call gives back its slot, or its place in the queue; a no-op if it has neither. */
  readonly leave: (call: Candidate) => void
  /** How many calls run, how many wait, and how many have been shed since the start. */
  readonly counts: () => { readonly answering: number; readonly waiting: number; readonly refused: number }
  /** How many clients have calls here. */
  readonly clients: () => number
}

/** How long a running call may wait for its client to read before it can lose its slot to another call, in milliseconds. */
const stallTimeout = 1_000

/** The share of the slots that one client can hold. */
const clientShare = 7 / 8

/** The share of the slots up to which calls that are done are no reason to keep a client waiting. */
const reservedShare = 1 / 2

export const make = (limits: Limits): AdmissionControl => {
  const { maxConcurrency, maxQueue, whenFull = "wait" } = limits
  const maxWait = Duration.toMillis(limits.maxQueueWait)
  // where calls of others can be evicted, nothing needs to be left for those to come
  const maxOfClient = whenFull === "evict" ? maxConcurrency : Math.ceil(maxConcurrency * clientShare)
  const reserved = Math.ceil(maxConcurrency * reservedShare)
  const clients = new Map<string, Client>()
  /** Clients with waiting calls, in the order in which they get slots. */
  const rotation = new LinkedList<Client>()
  /** Calls with a slot, and those of them that are done. */
  let running = 0
  let done = 0
  let queued = 0
  let paused = 0
  let shed = 0
  let isRunningNext = false
  let timer: NodeJS.Timeout | undefined

  const clientOf = (name: string): Client => {
    let client = clients.get(name)
    if (client === undefined) clients.set(name, (client = new Client(name)))
    return client
  }

  const forgetUnused = (client: Client) => {
    if (client.queued.size === 0 && client.running.size === 0) clients.delete(client.name)
  }

  const run = (ticket: Ticket) => {
    ticket.state = "running"
    ticket.client.running.add(ticket)
    running++
    ticket.call.run()
  }

  const shedCall = (call: Candidate) => {
    shed++
    call.shed()
  }

  const enqueue = (ticket: Ticket) => {
    const { client } = ticket
    ticket.expiresAt = performance.now() + maxWait
    if (client.queued.size === 0) rotation.add(client)
    client.queued.add(ticket)
    queued++
    timer ??= setTimeout(shedExpired, maxWait)
  }

  const dequeue = (ticket: Ticket) => {
    const { call, client } = ticket
    client.queued.remove(ticket)
    queued--
    if (client.queued.size === 0) rotation.remove(client)
    call.ticket = undefined
  }

  const unpause = (ticket: Ticket) => {
    if (ticket.pausedAt === undefined) return
    ticket.pausedAt = undefined
    paused--
  }

  const leave = (call: Candidate) => {
    const { ticket } = call
    if (ticket === undefined) return
    call.ticket = undefined
    if (ticket.state === "queued") dequeue(ticket)
    else {
      unpause(ticket)
      if (ticket.state === "done") done--
      ticket.client.running.remove(ticket)
      running--
      if (queued > 0) runNext()
    }
    forgetUnused(ticket.client)
  }

  /** The next client in turn that may have another slot, if there is one. */
  const nextClient = (): Client | undefined => {
    if (running >= maxConcurrency) return undefined
    for (const client of rotation) if (client.running.size < maxOfClient) return client
    return undefined
  }

  /** Takes the call that has waited the longest of a client, which is the last in the rotation from then on. */
  const takeFrom = (client: Client): Ticket => {
    rotation.remove(client)
    rotation.add(client)
    const ticket = client.queued.first!
    dequeue(ticket)
    return ticket
  }

  /** Runs waiting calls while there are slots. */
  const runNext = () => {
    // a call may end while it is started: its slot is for the loop, and not for a loop within it
    if (isRunningNext) return
    isRunningNext = true
    try {
      const now = performance.now()
      for (let client = nextClient(); client !== undefined; client = nextClient()) {
        const ticket = takeFrom(client)
        // the timer is late when the server is busy, which is when it matters
        if (ticket.expiresAt > now) {
          ticket.call.ticket = ticket
          run(ticket)
        } else {
          forgetUnused(client)
          shedCall(ticket.call)
        }
      }
    } finally {
      isRunningNext = false
    }
  }

  /** Sheds calls that have waited for long enough. */
  const shedExpired = () => {
    timer = undefined
    const now = performance.now()
    let next = Infinity
    for (const client of rotation) {
      for (const ticket of client.queued) {
        if (ticket.expiresAt > now) {
          next = Math.min(next, ticket.expiresAt)
          break
        }
        dequeue(ticket)
        forgetUnused(client)
        shedCall(ticket.call)
      }
    }
    if (next < Infinity && queued > 0) timer ??= setTimeout(shedExpired, next - now)
  }

  const evict = (ticket: Ticket) => {
    leave(ticket.call)
    ticket.call.evict()
  }

  const firstStalled = (client: Client, now: number): Ticket | undefined => {
    for (const ticket of client.running) {
      if (ticket.pausedAt !== undefined && now - ticket.pausedAt >= stallTimeout) return ticket
    }
    return undefined
  }

  /**
   * Frees a slot that a call holds although it only waits for its client to read: of the client that has most slots. If it is only
   * its own share that keeps the new call from running, no other client loses a call for it.
   */
  const evictStalled = (entering: Client) => {
    if (paused === 0) return
    const now = performance.now()
    let victim: Ticket | undefined
    for (const client of entering.running.size < maxOfClient ? clients.values() : [entering]) {
      if (victim !== undefined && client.running.size <= victim.client.running.size) continue
      victim = firstStalled(client, now) ?? victim
    }
    if (victim !== undefined) evict(victim)
  }

  /** Frees the slot of the oldest call of the client that has most slots; of this one, if none has more. */
  const evictOldest = (entering: Client) => {
    const most = withMost(clients.values(), ({ running }) => running.size)
    // a client that holds as many as any other one gives way to itself
    const loser = most !== undefined && most.running.size > entering.running.size ? most : entering
    if (loser.running.first !== undefined) evict(loser.running.first)
  }

  /** Whether there is room in the queue: the client that has most calls there loses its latest, if it has more than this one. */
  const makeRoom = (entering: Client): boolean => {
    if (queued < maxQueue) return true
    const most = withMost(rotation, ({ queued }) => queued.size)
    const latest = most?.queued.last
    if (latest === undefined || most!.queued.size <= entering.queued.size + 1) return false
    dequeue(latest)
    shedCall(latest.call)
    return true
  }

  const enter = (call: Candidate) => {
    const client = clientOf(call.client)
    const mayRun = () => {
      const { size } = client.running
      if (size >= maxOfClient) return false
      return running < maxConcurrency || (size < reserved && running - done < maxConcurrency)
    }
    if (!mayRun()) {
      if (whenFull === "evict") evictOldest(client)
      else evictStalled(client)
    }
    // it was forgotten if the evicted call was its last one
    clients.set(client.name, client)
    const ticket = new Ticket(call, client)
    if (mayRun()) {
      call.ticket = ticket
      return run(ticket)
    }
    if (!makeRoom(client)) {
      forgetUnused(client)
      return shedCall(call)
    }
    call.ticket = ticket
    enqueue(ticket)
  }

  return {
    enter,
    pause: ({ ticket }) => {
      if (ticket?.state !== "running" || ticket.pausedAt !== undefined) return
      ticket.pausedAt = performance.now()
      paused++
    },
    resume: ({ ticket }) => {
      if (ticket !== undefined) unpause(ticket)
    },
    finish: ({ ticket }) => {
      if (ticket?.state !== "running") return
      unpause(ticket)
      ticket.state = "done"
      done++
    },
    leave,
    counts: () => ({ answering: running, waiting: queued, refused: shed }),
    clients: () => clients.size
  }
}

/** The client with most of something; the first of those that have equally many. */
const withMost = (clients: Iterable<Client>, count: (client: Client) => number): Client | undefined => {
  let most: Client | undefined
  for (const client of clients) if (most === undefined || count(client) > count(most)) most = client
  return most
}
