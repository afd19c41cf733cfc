/**
 * Decides when the handler of a call runs: a limited number of calls have a slot at the same time. Above the limit a few calls wait for
 * a short time, and the others are shed at once, because a response after the deadline wastes its slot.
 *
 * Slots are shared fairly between clients: waiting calls get slots by round robin over their clients, a full queue sheds a call of the
 * client that has most waiting, and no client gets all slots. A call takes a slot once its request is complete and gives it back once
 * its handler has finished, so a client that sends or reads slowly holds none. A call with a stream of requests takes its slot when it
 * starts.
 */
import { Duration } from "effect"

import { type Linked, LinkedList } from "../../collections/LinkedList.ts"
import type * as GrpcServer from "../GrpcServer.ts"

export interface Limits extends Pick<GrpcServer.Limits, "maxConcurrency" | "maxQueue" | "maxQueueWait"> {
  /**
   * What happens to a call when all slots are taken: it waits, or it evicts the oldest call of the client with most slots. Use the
   * latter for calls that last until their client cancels them, such as health watches.
   */
  readonly whenFull?: "wait" | "evict" | undefined
}

/** A call that requests a slot. Its functions do not throw. */
export interface Candidate {
  /** Identifies the client. Slots are shared between clients. */
  readonly client: string
  /** Called when the call gets a slot. */
  readonly run: () => void
  /** Called when the call is shed: it gets no slot. */
  readonly shed: () => void
  /** Called when the call is evicted: it has lost its slot. */
  readonly evict: () => void
  /** Written by {@link AdmissionControl} only. */
  ticket?: Ticket | undefined
}

/** A call that waits for a slot or has one. */
interface Ticket extends Linked<Ticket> {
  readonly call: Candidate
  readonly client: Client
  /** `done`: the handler has finished, and the slot is given back at the end of this turn of the event loop. */
  state: "queued" | "running" | "done"
  /** When a queued call is shed, in milliseconds of `performance.now()`. */
  expiresAt: number
  /** Since when the handler has been blocked on a slow reader, in milliseconds of `performance.now()`; undefined if it is not. */
  pausedAt: number | undefined
}

/** A client with queued or running calls. */
interface Client extends Linked<Client> {
  readonly name: string
  /** The longest waiting first. */
  readonly queued: LinkedList<Ticket>
  /** The oldest first. */
  readonly running: LinkedList<Ticket>
}

/** How long a running call may be blocked on a slow reader before it can be evicted in favour of another call, in milliseconds. */
const stallTimeout = 1_000

/** The share of the slots that one client can have. */
const clientShare = 7 / 8

/** Clients below this share may start a call in place of a finished one before the turn ends. */
const reservedShare = 1 / 2

export class AdmissionControl {
  readonly #maxConcurrency: number
  readonly #maxQueue: number
  /** In milliseconds. */
  readonly #maxQueueWait: number
  readonly #whenFull: "wait" | "evict"
  /** The slots that one client can have. */
  readonly #maxOfClient: number
  /** Clients with fewer slots may start a call in place of a finished one before the turn ends. */
  readonly #reserved: number
  readonly #clients = new Map<string, Client>()
  /** Clients with queued calls, in the order in which they get slots. */
  readonly #rotation = new LinkedList<Client>()
  /** Calls with a slot, and how many of them have a finished handler. */
  #running = 0
  #done = 0
  #queued = 0
  #paused = 0
  #shed = 0
  #isRunningNext = false
  #timer: NodeJS.Timeout | undefined = undefined
  /** Calls that give back their slots at the end of this turn of the event loop. */
  #finished: Array<Ticket> = []

  constructor({ maxConcurrency, maxQueue, maxQueueWait, whenFull = "wait" }: Limits) {
    this.#maxConcurrency = maxConcurrency
    this.#maxQueue = maxQueue
    this.#maxQueueWait = Duration.toMillis(maxQueueWait)
    this.#whenFull = whenFull
    // no slot has to stay free for other clients if these can evict calls
    this.#maxOfClient = whenFull === "evict" ? maxConcurrency : Math.ceil(maxConcurrency * clientShare)
    this.#reserved = Math.ceil(maxConcurrency * reservedShare)
  }

  /** Gives a call a slot and runs it, queues it, or sheds it. */
  enter(call: Candidate): void {
    let client = this.#clients.get(call.client)
    if (client === undefined) {
      client = {
        previous: undefined,
        next: undefined,
        name: call.client,
        queued: new LinkedList(),
        running: new LinkedList()
      }
      this.#clients.set(client.name, client)
    }
    const ticket: Ticket = {
      previous: undefined,
      next: undefined,
      call,
      client,
      state: "queued",
      expiresAt: Infinity,
      pausedAt: undefined
    }
    if (this.#mayRun(client) || this.#mayRunAfterEviction(client)) this.#run(ticket)
    else if (this.#makeRoom(client)) this.#enqueue(ticket)
    else this.#shedCall(ticket)
  }

  /** Marks a running call as blocked on a slow reader. */
  pause({ ticket }: Candidate): void {
    if (ticket?.state !== "running" || ticket.pausedAt !== undefined) return
    ticket.pausedAt = performance.now()
    this.#paused++
  }

  /** Marks a paused call as running again. */
  resume({ ticket }: Candidate): void {
    if (ticket?.pausedAt === undefined) return
    ticket.pausedAt = undefined
    this.#paused--
  }

  /**
   * Gives back the slot of a call at the end of this turn of the event loop. Until then the slot counts against its own client, and
   * against clients that have many slots. No-op without a slot.
   *
   * Handlers that never suspend run one after the other within a turn. If each gave back its slot at once, no call would ever be shed,
   * even by a server with far more calls than it can answer in time.
   */
  finish(call: Candidate): void {
    const { ticket } = call
    if (ticket?.state !== "running") return
    if (this.#whenFull === "evict") return this.leave(call)
    if (ticket.pausedAt !== undefined) this.resume(call)
    ticket.state = "done"
    this.#done++
    if (this.#finished.push(ticket) === 1) setImmediate(this.#endTurn)
  }

  readonly #endTurn = (): void => {
    const tickets = this.#finished
    this.#finished = []
    for (const { call } of tickets) this.leave(call)
  }

  /** Gives back the slot of a call, or its place in the queue, at once. No-op without either. */
  leave(call: Candidate): void {
    const { ticket } = call
    if (ticket === undefined) return
    if (ticket.state === "queued") this.#dequeue(ticket)
    else {
      if (ticket.pausedAt !== undefined) this.resume(call)
      call.ticket = undefined
      if (ticket.state === "done") this.#done--
      ticket.client.running.remove(ticket)
      this.#running--
      if (this.#queued > 0) this.#runNext()
    }
    this.#forgetUnused(ticket.client)
  }

  /** How many calls are running and queued, and how many have been shed since the start. */
  counts(): { readonly answering: number; readonly waiting: number; readonly refused: number } {
    return { answering: this.#running, waiting: this.#queued, refused: this.#shed }
  }

  /** Clients with queued or running calls. */
  clients(): number {
    return this.#clients.size
  }

  #mayRun({ running: { size } }: Client): boolean {
    if (size >= this.#maxOfClient) return false
    return (
      this.#running < this.#maxConcurrency ||
      (size < this.#reserved && this.#running - this.#done < this.#maxConcurrency)
    )
  }

  /** Whether a call of this client may run once another call has been evicted in its favour, which is tried here. */
  #mayRunAfterEviction(client: Client): boolean {
    if (this.#whenFull === "evict") this.#evictOldest(client)
    else this.#evictStalled(client)
    // the evicted call may have been the last one of this client
    this.#clients.set(client.name, client)
    return this.#mayRun(client)
  }

  #run(ticket: Ticket): void {
    const { call, client } = ticket
    ticket.state = "running"
    client.running.add(ticket)
    this.#running++
    call.ticket = ticket
    call.run()
  }

  /** Runs queued calls while there are slots. */
  #runNext(): void {
    // a call may end as soon as it is run: the outer loop fills its slot, so that the stack does not grow
    if (this.#isRunningNext) return
    this.#isRunningNext = true
    try {
      const now = performance.now()
      for (let client = this.#nextClient(); client !== undefined; client = this.#nextClient()) {
        const ticket = this.#takeFrom(client)
        // the timer is late on a busy server
        if (ticket.expiresAt > now) this.#run(ticket)
        else this.#shedCall(ticket)
      }
    } finally {
      this.#isRunningNext = false
    }
  }

  /** The next client in turn that may have another slot. */
  #nextClient(): Client | undefined {
    if (this.#running >= this.#maxConcurrency) return undefined
    for (const client of this.#rotation) if (client.running.size < this.#maxOfClient) return client
    return undefined
  }

  /** Takes the longest waiting call of a client, and moves the client to the end of the rotation. */
  #takeFrom(client: Client): Ticket {
    this.#rotation.remove(client)
    this.#rotation.add(client)
    const ticket = client.queued.first!
    this.#dequeue(ticket)
    return ticket
  }

  #enqueue(ticket: Ticket): void {
    const { call, client } = ticket
    ticket.expiresAt = performance.now() + this.#maxQueueWait
    if (client.queued.size === 0) this.#rotation.add(client)
    client.queued.add(ticket)
    this.#queued++
    call.ticket = ticket
    this.#startTimer(this.#maxQueueWait)
  }

  #startTimer(millis: number): void {
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#shedExpired(), millis)
  }

  #dequeue(ticket: Ticket): void {
    const { call, client } = ticket
    client.queued.remove(ticket)
    this.#queued--
    if (client.queued.size === 0) this.#rotation.remove(client)
    call.ticket = undefined
  }

  /** Sheds a call that is not queued, or no longer. */
  #shedCall({ call, client }: Ticket): void {
    this.#forgetUnused(client)
    this.#shed++
    call.shed()
  }

  /** Sheds calls that have waited too long. */
  #shedExpired(): void {
    this.#timer = undefined
    const now = performance.now()
    let next = Infinity
    for (const client of this.#rotation) {
      for (const ticket of client.queued) {
        if (ticket.expiresAt > now) {
          next = Math.min(next, ticket.expiresAt)
          break
        }
        this.#dequeue(ticket)
        this.#shedCall(ticket)
      }
    }
    if (next < Infinity && this.#queued > 0) this.#startTimer(next - now)
  }

  /** Whether the queue has room. If it is full, sheds the latest call of the client with most queued calls in favour of one with fewer. */
  #makeRoom(entering: Client): boolean {
    if (this.#queued < this.#maxQueue) return true
    const most = withMost(this.#rotation, ({ queued }) => queued.size)
    const latest = most?.queued.last
    if (latest === undefined || most!.queued.size <= entering.queued.size + 1) return false
    this.#dequeue(latest)
    this.#shedCall(latest)
    return true
  }

  /**
   * Evicts a call that is blocked on a slow reader, of the client with most slots. If the new call cannot run because of its own client's
   * share, only a call of that client is evicted.
   */
  #evictStalled(entering: Client): void {
    if (this.#paused === 0) return
    const now = performance.now()
    let victim: Ticket | undefined
    for (const client of entering.running.size < this.#maxOfClient ? this.#clients.values() : [entering]) {
      if (victim !== undefined && client.running.size <= victim.client.running.size) continue
      victim = firstStalled(client, now) ?? victim
    }
    if (victim !== undefined) this.#evict(victim)
  }

  /** Evicts the oldest call of the client with most slots, or of this client if no other has more. */
  #evictOldest(entering: Client): void {
    const most = withMost(this.#clients.values(), ({ running }) => running.size)
    const loser = most !== undefined && most.running.size > entering.running.size ? most : entering
    if (loser.running.first !== undefined) this.#evict(loser.running.first)
  }

  #evict({ call }: Ticket): void {
    this.leave(call)
    call.evict()
  }

  #forgetUnused(client: Client): void {
    if (client.queued.size === 0 && client.running.size === 0) this.#clients.delete(client.name)
  }
}

const firstStalled = (client: Client, now: number): Ticket | undefined => {
  for (const ticket of client.running) {
    if (ticket.pausedAt !== undefined && now - ticket.pausedAt >= stallTimeout) return ticket
  }
  return undefined
}

/** The client with the largest count, or the first of them. */
const withMost = (clients: Iterable<Client>, count: (client: Client) => number): Client | undefined => {
  let most: Client | undefined
  for (const client of clients) if (most === undefined || count(client) > count(most)) most = client
  return most
}
