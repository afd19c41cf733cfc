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

/** The place of a call, to be given back when it ends. */
export interface Ticket {
  readonly leave: () => void
}

export interface Admission {
  readonly enter: (candidate: Candidate) => Ticket
  /** How many calls are being answered, how many wait, and how many have been refused since the start. */
  readonly counts: () => { readonly answering: number; readonly waiting: number; readonly refused: number }
}

interface Waiting {
  readonly candidate: Candidate
  /** By the monotonic clock, in milliseconds. */
  readonly until: number
}

const nothingToGiveBack: Ticket = { leave: () => {} }

export const make = (limits: Limits): Admission => {
  const wait = Duration.toMillis(limits.maxQueueWait)
  // a Set keeps the order in which its members came, and forgets one in no time
  const queue = new Set<Waiting>()
  let answering = 0
  let refused = 0
  let timer: NodeJS.Timeout | undefined

  const refuse = (candidate: Candidate) => {
    refused++
    candidate.refuse()
  }

  /** Refuses those that have waited long enough; all wait equally long, so the first one is the first to give up. */
  const expire = () => {
    timer = undefined
    const now = performance.now()
    for (const waiting of queue) {
      if (waiting.until > now) {
        timer = setTimeout(expire, waiting.until - now)
        return
      }
      queue.delete(waiting)
      refuse(waiting.candidate)
    }
  }

  const leave = () => {
    answering--
    const now = performance.now()
    for (const waiting of queue) {
      queue.delete(waiting)
      // the timer is late when the server is busy, which is when it matters
      if (waiting.until <= now) {
        refuse(waiting.candidate)
      } else {
        answering++
        waiting.candidate.start()
        return
      }
    }
  }

  return {
    enter: (candidate) => {
      if (answering < limits.maxConcurrency) {
        answering++
        candidate.start()
        return { leave }
      }
      if (queue.size >= limits.maxQueue) {
        refuse(candidate)
        return nothingToGiveBack
      }
      let isAnswering = false
      const waiting: Waiting = {
        until: performance.now() + wait,
        candidate: {
          start: () => {
            isAnswering = true
            candidate.start()
          },
          refuse: candidate.refuse
        }
      }
      queue.add(waiting)
      timer ??= setTimeout(expire, wait)
      return {
        leave: () => {
          if (isAnswering) leave()
          else queue.delete(waiting)
        }
      }
    },
    counts: () => ({ answering, waiting: queue.size, refused })
  }
}
