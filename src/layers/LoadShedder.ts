/**
 * Load shedding: how many requests a server works on at the same time. The limit follows the delay of the event loop, in the way
 * that CoDel (RFC 8289) follows the delay of a queue: while every measurement of an interval is above the target, there is more
 * work than the processor can do, and the limit falls by a third; otherwise it grows again. So requests above what can be done are
 * refused at once, and those that are accepted are answered in time.
 *
 * Requests that wait for a backend do not delay the event loop: for them only the maximum counts.
 */

export interface LoadShedder {
  /** Takes a place for a request, or says that there is none. */
  readonly enter: () => boolean
  /** Gives a place back. */
  readonly leave: () => void
  readonly counts: () => { readonly active: number; readonly limit: number }
  /** Stops measuring. */
  readonly close: () => void
}

/** How often the delay is measured, in milliseconds. */
const period = 20

/** A delay of the event loop that is always exceeded for an interval means overload, in milliseconds. */
const target = 30

/** How long the delay has to stay above the target, in milliseconds. */
const interval = 100

/** Under overload too, that many requests are worked on, so that a processor that others use shuts out no short burst. */
const minimum = 32

/** The limit begins here and grows while it is needed, so that a sudden overload is noticed before much has been accepted. */
const initial = 128

/** `schedule` calls a function every period; it is passed in so that whoever makes one can guard it. */
export const make = (
  maximum: number,
  schedule: (callback: () => void, period: number) => { readonly close: () => void } = everyPeriod
): LoadShedder => {
  let active = 0
  let limit = Math.min(initial, maximum)
  /** The most requests that were active in this interval. */
  let peak = 0
  let leastDelay = Infinity
  let measuredAt = performance.now()
  let intervalBeganAt = measuredAt

  const adjust = () => {
    if (leastDelay > target) limit = Math.max(Math.min(minimum, maximum), Math.floor((Math.min(limit, peak) * 2) / 3))
    else if (2 * peak >= limit) limit = Math.min(maximum, limit + Math.max(1, Math.floor(limit / 10)))
    // after an overload, back to where it began
    else if (limit < initial) limit = Math.min(initial, maximum, limit + 1)
  }

  const timer = schedule(() => {
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
      if (active >= limit) return false
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

const everyPeriod = (callback: () => void, period: number) => {
  const timer = setInterval(callback, period).unref()
  return { close: () => clearInterval(timer) }
}
