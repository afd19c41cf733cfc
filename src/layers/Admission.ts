/**
 * How many calls a server answers at once. Above that a few wait, in turn and not for long; the others are refused at once,
 * since an answer that comes after its client has given up helps nobody and takes the place of one that would.
 */
import { Duration } from "effect"

export interface Limits {
  /** Calls that are being answered at the same time. */
  readonly maxConcurrency: number
  /** Calls that wait for their turn. */
  readonly maxQueue: number
  /** How long each of them waits at the most. */
  readonly maxQueueWait: Duration.Duration
}

/** A call that would like to begin. It is told to, or is refused; and to go on, if it has to wait for its client in between. */
export interface Candidate {
  readonly start: () => void
  readonly refuse: () => void
  /** It has lost its place after it has begun: its client is told to calm down, and what it takes up is set free. */
  readonly evict: () => void
}

export interface Admission {
  /** Gives a call a place and starts it, lets it wait, or refuses it. */
  readonly enter: (call: Candidate) => void
  /**
   * There is nothing to do for a call but to wait for its client: to send the rest of its one request, or to take its one answer.
   * A call with a stream has its place for as long as its handler runs.
   */
  readonly pause: (call: Candidate) => void
  /** Starts a call again that was waiting for its client, if it still has its place. */
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
  // Sets and Maps keep the order in which their members came, and forget one in no time. Times are monotonic.
  const answering = new Set<Candidate>()
  /** Those of them that wait for their clients, by since when. */
  const paused = new Map<Candidate, number>()
  /** Those that wait, by when they have waited long enough. */
  const queue = new Map<Candidate, number>()
  let refused = 0
  let timer: NodeJS.Timeout | undefined

  const start = (call: Candidate) => {
    answering.add(call)
    call.start()
  }

  const refuse = (call: Candidate) => {
    refused++
    call.refuse()
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
    if (!answering.delete(call)) {
      queue.delete(call)
      return
    }
    paused.delete(call)
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
    for (const [call, since] of paused) {
      if (performance.now() - since < stallTimeout) return
      leave(call)
      return call.evict()
    }
  }

  const enter = (call: Candidate) => {
    if (answering.size >= limits.maxConcurrency) evict()
    if (answering.size < limits.maxConcurrency) return start(call)
    if (queue.size >= limits.maxQueue) return refuse(call)
    queue.set(call, performance.now() + wait)
    timer ??= setTimeout(expire, wait)
  }

  return {
    enter,
    pause: (call) => {
      if (answering.has(call)) paused.set(call, performance.now())
    },
    resume: (call) => {
      if (!answering.has(call)) return
      paused.delete(call)
      call.start()
    },
    leave,
    counts: () => ({ answering: answering.size, waiting: queue.size, refused })
  }
}
