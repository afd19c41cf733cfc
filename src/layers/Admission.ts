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

/** A call that would like to begin; it is told one of the two, once. */
export interface Candidate {
  readonly start: () => void
  readonly refuse: () => void
}

export interface Admission {
  /** Starts a call, lets it wait, or refuses it. */
  readonly enter: (call: Candidate) => void
  /** A call's handler is done: what is left is for its client to take the answer. */
  readonly answered: (call: Candidate) => void
  /** A call is over, and gives back its place; nothing happens if it has none. */
  readonly leave: (call: Candidate) => void
  /** Whether a call that enters now is refused. */
  readonly isFull: () => boolean
  /** How many calls are being answered, how many wait, and how many have been refused since the start. */
  readonly counts: () => { readonly answering: number; readonly waiting: number; readonly refused: number }
}

/** How long a client may leave an answer lying before that no longer keeps others out, in milliseconds. */
const stallTimeout = 1_000

export const make = (limits: Limits): Admission => {
  const wait = Duration.toMillis(limits.maxQueueWait)
  // Sets and Maps keep the order in which their members came, and forget one in no time. Times are monotonic.
  const answering = new Set<Candidate>()
  /** Those of them whose handlers are done, by when that was. */
  const answered = new Map<Candidate, number>()
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
    answered.delete(call)
    const now = performance.now()
    for (const [next, until] of queue) {
      queue.delete(next)
      // the timer is late when the server is busy, which is when it matters
      if (until > now) return start(next)
      refuse(next)
    }
  }

  /** Takes the places of those whose clients do not take their answers. */
  const sweep = () => {
    const now = performance.now()
    for (const [call, since] of answered) {
      if (now - since < stallTimeout) return
      leave(call)
    }
  }

  const isFull = () => {
    if (answering.size < limits.maxConcurrency) return false
    sweep()
    return answering.size >= limits.maxConcurrency && queue.size >= limits.maxQueue
  }

  return {
    enter: (call) => {
      if (isFull()) return refuse(call)
      if (answering.size < limits.maxConcurrency) return start(call)
      queue.set(call, performance.now() + wait)
      timer ??= setTimeout(expire, wait)
    },
    answered: (call) => {
      if (answering.has(call)) answered.set(call, performance.now())
    },
    leave,
    isFull,
    counts: () => ({ answering: answering.size, waiting: queue.size, refused })
  }
}
