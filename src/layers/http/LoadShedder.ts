/**
 * Load shedding: adapts the limit of concurrent requests to the delay of the event loop, as CoDel (RFC 8289) does with the delay of a
 * queue: while every measurement of an interval exceeds the target, the CPU is overloaded, and the limit is reduced by a third; otherwise
 * it grows again. Excess requests are refused immediately, so that accepted ones are answered in time.
 *
 * Requests that wait for a backend do not delay the event loop: only the maximum limits them. Synchronous requests never overlap, so a
 * concurrency limit cannot bound them; they queue in the kernel. Therefore each turn of the event loop accepts requests only for a limited
 * time, and refuses the other requests that it has received.
 */

export interface LoadShedder {
  /** Acquires a slot for a request; false if the request must be refused. */
  readonly enter: () => boolean
  /** Releases a slot. */
  readonly leave: () => void
  readonly counts: () => { readonly active: number; readonly limit: number }
  /** Stops measuring. */
  readonly close: () => void
}

/** How often the delay is measured, in milliseconds. */
const period = 20

/** The maximum delay of the event loop without overload, in milliseconds. */
const target = 50

/** How long the delay must exceed the target for an overload, in milliseconds. */
const interval = 100

/** The lowest limit, so that a short burst is accepted while other processes use the CPU. */
const minimum = 32

/** The initial limit, low enough to detect a sudden overload before many requests have been accepted. */
const initial = 128

/** How long one turn of the event loop accepts requests, in milliseconds. */
const turnBudget = 250
const turnBudgetUnderOverload = 100

/** Timers, injectable for tests. */
export interface Timers {
  /** Calls a function every period, in milliseconds. */
  readonly every: (callback: () => void, period: number) => { readonly close: () => void }
  /** Calls a function once, after this turn of the event loop. */
  readonly afterTurn: (callback: () => void) => void
}

export const make = (maximum: number, timers: Timers): LoadShedder => {
  let active = 0
  let limit = Math.min(initial, maximum)
  /** The maximum of `active` in this interval. */
  let peak = 0
  let leastDelay = Infinity
  let measuredAt = performance.now()
  let intervalBeganAt = measuredAt

  let isOverloaded = false
  /** When this turn of the event loop received its first request. */
  let turnBeganAt: number | undefined
  const endTurn = () => (turnBeganAt = undefined)

  const isTurnFull = () => {
    const now = performance.now()
    if (turnBeganAt === undefined) {
      turnBeganAt = now
      timers.afterTurn(endTurn)
    }
    return now - turnBeganAt > (isOverloaded ? turnBudgetUnderOverload : turnBudget)
  }

  const adjust = () => {
    isOverloaded = leastDelay > target
    if (isOverloaded) limit = Math.max(Math.min(minimum, maximum), Math.floor((Math.min(limit, peak) * 2) / 3))
    else if (2 * peak >= limit) limit = Math.min(maximum, limit + Math.max(1, Math.floor(limit / 10)))
    // after an overload, it grows back to the initial limit
    else if (limit < initial) limit = Math.min(initial, maximum, limit + 1)
  }

  const timer = timers.every(() => {
    const now = performance.now()
    leastDelay = Math.min(leastDelay, now - measuredAt - period)
    measuredAt = now
    if (now - intervalBeganAt < interval) return
    adjust()
    leastDelay = Infinity
    intervalBeganAt = now
    peak = active
  }, period)

  return {
    enter: () => {
      if (active >= limit || isTurnFull()) return false
      active++
      if (active > peak) peak = active
      return true
    },
    leave: () => {
      active--
    },
    counts: () => ({ active, limit }),
    close: timer.close
  }
}
