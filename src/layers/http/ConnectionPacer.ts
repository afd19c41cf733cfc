/**
 * Delays reading from connections of client addresses that have flooded the server. A flooding connection is closed only after
 * everything that has arrived on it is parsed, so a client with many such connections would occupy the event loop. Unread connections of its
 * address are read one at a time, at an interval. None is refused, since many clients may share an address.
 */

/** How long an address is delayed after its last flood, in milliseconds. */
const floodPenalty = 10_000

/** The time between reading two connections of one address, in milliseconds. */
const interval = 200

/** The maximum number of addresses that are remembered, more than can flood at the same time. */
const maxAddresses = 1_000

/** Timers, injectable for tests. */
export interface Timers {
  readonly after: (callback: () => void, millis: number) => void
  /** Monotonic, in milliseconds. */
  readonly now: () => number
}

/** An address that has flooded the server. */
interface Flooder {
  /** When the delay ends. */
  until: number
  /** When its next connection may be read. */
  nextAt: number
}

export interface ConnectionPacer {
  /** Call it when a connection of an address is closed for flooding. */
  readonly flooded: (address: string) => void
  /** Calls `read` when reading from a connection of an address may start: synchronously, or after a delay. */
  readonly admit: (address: string, read: () => void) => void
}

export const make = ({ after, now }: Timers): ConnectionPacer => {
  /** By address, in the order of their last floods. */
  const flooders = new Map<string, Flooder>()

  return {
    flooded: (address) => {
      const known = flooders.get(address)
      flooders.delete(address)
      flooders.set(address, { until: now() + floodPenalty, nextAt: known?.nextAt ?? now() + interval })
      if (flooders.size <= maxAddresses) return
      const [oldest] = flooders.keys()
      flooders.delete(oldest!)
    },
    admit: (address, read) => {
      const flooder = flooders.get(address)
      if (flooder === undefined) return read()
      const time = now()
      if (time > flooder.until) {
        flooders.delete(address)
        return read()
      }
      const at = Math.max(time, flooder.nextAt)
      flooder.nextAt = at + interval
      if (at === time) read()
      else after(read, at - time)
    }
  }
}
