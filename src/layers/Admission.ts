/**
 * How many calls a server answers at once. Above that a few wait, in turn and not for long; the others are refused at once,
 * since an answer that comes after its client has given up helps nobody and takes the place of one that would.
 */
import { Duration } from "effect"

import { type Linked, LinkedList } from "./LinkedList.ts"

export interface Limits {
  /** Calls that are being answered at the same time. */
  readonly maxConcurrency: number
  /** Calls that wait for their turn. */
  readonly maxQueue: number
  /** How long each of them waits at the most. */
  readonly maxQueueWait: Duration.Duration
}

/** A call that would like to begin. */
export interface Candidate {
  /** It may begin; and go on, each time that it has {@link Admission.resume resumed}. */
  readonly proceed: () => void
  readonly refuse: () => void
  /** It has lost its place after it has begun: its client is told to calm down, and what it takes up is set free. */
  readonly evict: () => void
  /** {@link Admission}'s own. */
  place?: Place | undefined
}

/** The place of a call that is being answered. */
class Place implements Linked<Place> {
  previous: Place | undefined = undefined
  next: Place | undefined = undefined
  readonly call: Candidate
  /** Since when it waits for its client, by `performance.now()`; undefined if it does not. */
  since: number | undefined = undefined

  constructor(call: Candidate) {
    this.call = call
  }
}

export interface Admission {
  /** Gives a call a place and lets it proceed, lets it wait, or refuses it. */
  readonly enter: (call: Candidate) => void
  /**
   * There is nothing to do for a call but to wait for its client: to send the rest of its one request, or to take its one answer.
   * A call with a stream has its place for as long as its handler runs.
   */
  readonly pause: (call: Candidate) => void
  /** Lets a call that was waiting for its client proceed again, if it still has its place. */
  readonly resume: (call: Candidate) => void
  /** A call is over, and gives back its place; nothing happens if it has none. */
  readonly leave: (call: Candidate) => void
  /** How many calls are being answered, how many wait, and how many have been refused since the start. */
  readonly counts: () => { readonly answering: number; readonly waiting: number; readonly refused: number }
}

/** How long a call may wait for its client before one that enters gets its place, in milliseconds. */
const stallTimeout = 1_000

export const make = (limits: Limits): Admission => {
  const wait = Duration.toMillis(limits.maxQueueWait)
  let answering = 0
  /** Those of them that wait for their clients, the one that does so the longest first. */
  const paused = new LinkedList<Place>()
  /** Those that wait, by when they have waited long enough, in the order in which they came. */
  const queue = new Map<Candidate, number>()
  let refused = 0
  let timer: NodeJS.Timeout | undefined

  const start = (call: Candidate) => {
    answering++
    call.place = new Place(call)
    call.proceed()
  }

  const refuse = (call: Candidate) => {
    refused++
    call.refuse()
  }

  const unpause = (place: Place) => {
    if (place.since === undefined) return
    place.since = undefined
    paused.remove(place)
  }

  /** Refuses those that have waited long enough; all wait equally long, so the first one is the first to give up. */
  const expire = () => {
    timer = undefined
    const now = performance.now()
    for (const [call, until] of queue) {
      if (until > now) {
        timer = setTimeout(expire, until - now)
        return
      }
      queue.delete(call)
      refuse(call)
    }
  }

  const leave = (call: Candidate) => {
    const { place } = call
    if (place === undefined) {
      queue.delete(call)
      return
    }
    call.place = undefined
    answering--
    unpause(place)
    if (queue.size > 0) startNext()
  }

  const startNext = () => {
    const now = performance.now()
    for (const [next, until] of queue) {
      queue.delete(next)
      // the timer is late when the server is busy, which is when it matters
      if (until > now) return start(next)
      refuse(next)
    }
  }

  /** Takes the place of the call that has waited for its client the longest, if that is long enough. */
  const evict = () => {
    const { first } = paused
    if (first?.since === undefined || performance.now() - first.since < stallTimeout) return
    leave(first.call)
    first.call.evict()
  }

  const enter = (call: Candidate) => {
    if (answering >= limits.maxConcurrency) evict()
    if (answering < limits.maxConcurrency) return start(call)
    if (queue.size >= limits.maxQueue) return refuse(call)
    queue.set(call, performance.now() + wait)
    timer ??= setTimeout(expire, wait)
  }

  return {
    enter,
    pause: ({ place }) => {
      if (place === undefined) return
      unpause(place)
      place.since = performance.now()
      paused.add(place)
    },
    resume: (call) => {
      if (call.place === undefined) return
      unpause(call.place)
      call.proceed()
    },
    leave,
    counts: () => ({ answering, waiting: queue.size, refused })
  }
}
