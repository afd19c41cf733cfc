/**
 * Decides when the handler of a call runs: a limited number of calls have a slot at the same time. Above the limit a few calls wait for
 * a short time, and the others are shed at once, since a late answer is wasted together with the slot that it took.
 *
 * Slots are shared fairly between clients: waiting calls get slots by round robin over their clients, a full queue sheds a call of the
 * client that has most waiting, and no client gets all slots. A call takes a slot once its request is complete and gives it back once
 * its response is made, so a client that sends or reads slowly holds none.
 */
import { Duration } from "effect"

import { type Linked, LinkedList } from "../../collections/LinkedList.ts"
import type * as GrpcServer from "../GrpcServer.ts"

export interface Limits extends Pick<GrpcServer.Limits, "maxConcurrency" | "maxQueue" | "maxQueueWait"> {
  /**
   * What happens to a call when all slots are taken: it waits, or the client with most slots loses its oldest call. Use the latter for
   * calls that last as long as their client wants, such as health watches.
   */
  readonly whenFull?: "wait" | "evict" | undefined
}

/** A call that asks for a slot. Its functions do not throw. */
export interface Candidate {
  /** Identifies the client. Slots are shared between clients. */
  readonly client: string
  /** The call has a slot. */
  readonly run: () => void
  /** The call gets no slot. */
  readonly shed: () => void
  /** The call has lost its slot. */
  readonly evict: () => void
  /** Written by {@link AdmissionControl} only. */
  ticket?: Ticket | undefined
}

/** A call that waits for a slot or has one. */
interface Ticket extends Linked<Ticket> {
  readonly call: Candidate
  readonly client: Client
  /** `done` is a call that gives back its slot at the end of this turn of the event loop. */
  state: "queued" | "running" | "done"
  /** When a queued call is shed, by `performance.now()`. */
  expiresAt: number
  /** Since when the handler waits for its client to read, by `performance.now()`; undefined if it does not. */
  pausedAt: number | undefined
}

/** A client that has calls here. */
interface Client extends Linked<Client> {
  readonly name: string
  /** The longest waiting first. */
  readonly queued: LinkedList<Ticket>
  /** The oldest first. */
  readonly running: LinkedList<Ticket>
}

export interface AdmissionControl {
  /** Gives a call a slot and runs it, queues it, or sheds it. */
  readonly enter: (call: Candidate) => void
  /** A running call waits for its client to read. */
  readonly pause: (call: Candidate) => void
  /** A paused call continues. */
  readonly resume: (call: Candidate) => void
  /**
   * A call is done, and gives back its slot at the end of this turn of the event loop. Until then the slot counts against its own client,
   * and against clients that have many slots. No-op without a slot.
   *
   * Handlers that never wait run one after the other within a turn. If each gave back its slot at once, no call would ever be shed, even
   * by a server with far more calls than it can answer in time.
   */
  readonly finish: (call: Candidate) => void
  /** A call gives back its slot, or its place in the queue, at once. No-op without either. */
  readonly leave: (call: Candidate) => void
  /** Calls that run, calls that wait, and calls that have been shed since the start. */
  readonly counts: () => { readonly answering: number; readonly waiting: number; readonly refused: number }
  /** Clients that have calls here. */
  readonly clients: () => number
}

/** How long a running call may wait for its client to read before it can lose its slot to another call, in milliseconds. */
const stallTimeout = 1_000

/** The share of the slots that one client can have. */
const clientShare = 7 / 8

/** A client with a smaller share of the slots does not wait for slots of calls that are done. */
const reservedShare = 1 / 2

export const make = (limits: Limits): AdmissionControl => {
  const { maxConcurrency, maxQueue, whenFull = "wait" } = limits
  const maxWait = Duration.toMillis(limits.maxQueueWait)
  // no slot has to stay free for other clients if these can evict calls
  const maxOfClient = whenFull === "evict" ? maxConcurrency : Math.ceil(maxConcurrency * clientShare)
  const reserved = Math.ceil(maxConcurrency * reservedShare)
  const clients = new Map<string, Client>()
  /** Clients with queued calls, in the order in which they get slots. */
  const rotation = new LinkedList<Client>()
  /** Calls with a slot, and those of them that are done. */
  let running = 0
  let done = 0
  let queued = 0
  let paused = 0
  let shed = 0
  let isRunningNext = false
  let timer: NodeJS.Timeout | undefined
  /** Calls that give back their slots at the end of this turn. */
  let finished: Array<Ticket> = []

  const forgetUnused = (client: Client) => {
    if (client.queued.size === 0 && client.running.size === 0) clients.delete(client.name)
  }

  const mayRun = ({ running: { size } }: Client): boolean =>
    size < maxOfClient && (running < maxConcurrency || (size < reserved && running - done < maxConcurrency))

  const run = (ticket: Ticket) => {
    const { call, client } = ticket
    ticket.state = "running"
    client.running.add(ticket)
    running++
    call.ticket = ticket
    call.run()
  }

  const shedCall = (call: Candidate) => {
    shed++
    call.shed()
  }

  const enqueue = (ticket: Ticket) => {
    const { call, client } = ticket
    ticket.expiresAt = performance.now() + maxWait
    if (client.queued.size === 0) rotation.add(client)
    client.queued.add(ticket)
    queued++
    call.ticket = ticket
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

  const finish = (call: Candidate) => {
    const { ticket } = call
    if (ticket?.state !== "running") return
    if (whenFull === "evict") return leave(call)
    unpause(ticket)
    ticket.state = "done"
    done++
    if (finished.push(ticket) === 1) setImmediate(endTurn)
  }

  const endTurn = () => {
    const tickets = finished
    finished = []
    for (const { call } of tickets) leave(call)
  }

  /** The next client in turn that may have another slot. */
  const nextClient = (): Client | undefined => {
    if (running >= maxConcurrency) return undefined
    for (const client of rotation) if (client.running.size < maxOfClient) return client
    return undefined
  }

  /** Takes the longest waiting call of a client, and moves the client to the end of the rotation. */
  const takeFrom = (client: Client): Ticket => {
    rotation.remove(client)
    rotation.add(client)
    const ticket = client.queued.first!
    dequeue(ticket)
    return ticket
  }

  /** Runs queued calls while there are slots. */
  const runNext = () => {
    // a call may end as soon as it is run: the outer loop fills its slot, so that the stack does not grow
    if (isRunningNext) return
    isRunningNext = true
    try {
      const now = performance.now()
      for (let client = nextClient(); client !== undefined; client = nextClient()) {
        const ticket = takeFrom(client)
        // the timer is late on a busy server
        if (ticket.expiresAt > now) run(ticket)
        else {
          forgetUnused(client)
          shedCall(ticket.call)
        }
      }
    } finally {
      isRunningNext = false
    }
  }

  /** Sheds calls that have waited too long. */
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

  const evict = ({ call }: Ticket) => {
    leave(call)
    call.evict()
  }

  const firstStalled = (client: Client, now: number): Ticket | undefined => {
    for (const ticket of client.running) {
      if (ticket.pausedAt !== undefined && now - ticket.pausedAt >= stallTimeout) return ticket
    }
    return undefined
  }

  /**
   * Evicts a call that only waits for its client to read, of the client with most slots. If the new call cannot run because of its own
   * client's share, only a call of that client.
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

  /** Evicts the oldest call of the client with most slots, or of this client if no other has more. */
  const evictOldest = (entering: Client) => {
    const most = withMost(clients.values(), ({ running }) => running.size)
    const loser = most !== undefined && most.running.size > entering.running.size ? most : entering
    if (loser.running.first !== undefined) evict(loser.running.first)
  }

  /** Whether the queue has room. If it is full, the client with most calls there loses its latest one to a client with fewer. */
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
    const client = clients.get(call.client) ?? {
      previous: undefined,
      next: undefined,
      name: call.client,
      queued: new LinkedList(),
      running: new LinkedList()
    }
    clients.set(client.name, client)
    const ticket: Ticket = {
      previous: undefined,
      next: undefined,
      call,
      client,
      state: "queued",
      expiresAt: Infinity,
      pausedAt: undefined
    }
    if (mayRun(client)) return run(ticket)
    if (whenFull === "evict") evictOldest(client)
    else evictStalled(client)
    // the evicted call may have been the last one of this client
    clients.set(client.name, client)
    if (mayRun(client)) run(ticket)
    else if (makeRoom(client)) enqueue(ticket)
    else {
      forgetUnused(client)
      shedCall(call)
    }
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
    finish,
    leave,
    counts: () => ({ answering: running, waiting: queued, refused: shed }),
    clients: () => clients.size
  }
}

/** The client with the largest count; the first of several. */
const withMost = (clients: Iterable<Client>, count: (client: Client) => number): Client | undefined => {
  let most: Client | undefined
  for (const client of clients) if (most === undefined || count(client) > count(most)) most = client
  return most
}
