/**
 * Delays reading from connections of client addresses that have flooded the server. A connection is only closed after everything that
 * has arrived on it is parsed, so a client that floods many, or reconnects at once, would keep the process busy. Connections of such an
 * address from which nothing has been read yet are read one at a time, at intervals. None is refused, since many readers may share an
 * address.
 */

/** How long an address is delayed after its last flood, in milliseconds. */
const memory = 10_000

/** The time between two connections of one address, in milliseconds. */
const interval = 200

/** Addresses that are remembered: more than can flood at the same time. */
const maxAddresses = 1_000

/** The clock of a process. */
export interface Timers {
  readonly after: (callback: () => void, millis: number) => void
  /** Monotonic, in milliseconds. */
  readonly now: () => number
}

/** An address that has flooded. */
interface Flooder {
  /** Until when its connections are delayed. */
  until: number
  /** When its next connection may be read. */
  nextAt: number
}

export interface ConnectionPacer {
  /** A connection of an address was closed for flooding. */
  readonly flooded: (address: string) => void
  /** Calls back when a connection of an address may be read: at once, or when its turn has come. */
  readonly admit: (address: string, read: () => void) => void
}

export const make = ({ after, now }: Timers): ConnectionPacer => {
  /** The one whose last flood is the longest ago first. */
  const flooders = new Map<string, Flooder>()

  return {
    flooded: (address) => {
      const known = flooders.get(address)
      flooders.delete(address)
      flooders.set(address, { until: now() + memory, nextAt: known?.nextAt ?? now() + interval })
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
