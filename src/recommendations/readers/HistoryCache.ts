/**
 * What was read last about the history of readers: the least recently used ones are dropped. A value that was read before the history
 * changed is never stored afterwards.
 */
import { Effect } from "effect"

/** The maximum number of book ids of all readers together; each reader counts as some more. */
const maxSize = 250_000
const sizeOfReader = 8

interface Entry {
  readonly excluded: ReadonlySet<number>
  /** When it was read, in milliseconds of the clock. */
  readonly readAt: number
}

export class HistoryCache {
  /** The least recently used first. */
  readonly #entries = new Map<number, Entry>()
  /** The latest read of each reader that is not finished. */
  readonly #reads = new Map<number, object>()
  #size = 0

  /** The ids of the books that are not recommended to a reader; undefined if they are not known. */
  get(userId: number): ReadonlySet<number> | undefined {
    const entry = this.#entries.get(userId)
    if (entry === undefined) return undefined
    this.#entries.delete(userId)
    this.#entries.set(userId, entry)
    return entry.excluded
  }

  /** Runs a read, and stores its result unless the reader is deleted or read again in the meantime. */
  read<E, R>(
    userId: number,
    effect: Effect.Effect<ReadonlySet<number>, E, R>
  ): Effect.Effect<ReadonlySet<number>, E, R> {
    return Effect.clockWith((clock) => {
      const read = {}
      this.#reads.set(userId, read)
      const isLatest = () => this.#reads.get(userId) === read
      return effect.pipe(
        Effect.tap((excluded) =>
          Effect.sync(() => {
            if (isLatest()) this.#store(userId, { excluded, readAt: clock.currentTimeMillisUnsafe() })
          })
        ),
        Effect.ensuring(
          Effect.sync(() => {
            if (isLatest()) this.#reads.delete(userId)
          })
        )
      )
    })
  }

  /** Drops the history of a reader, also one that is being read. */
  delete(userId: number): void {
    this.#reads.delete(userId)
    this.#drop(userId)
  }

  /** Drops everything. */
  clear(): void {
    this.#reads.clear()
    this.#entries.clear()
    this.#size = 0
  }

  /** Drops what was read before a time. */
  deleteOlderThan(time: number): void {
    for (const [userId, { readAt }] of this.#entries) if (readAt < time) this.#drop(userId)
  }

  #store(userId: number, entry: Entry): void {
    this.#drop(userId)
    this.#entries.set(userId, entry)
    this.#size += sizeOf(entry)
    for (const oldest of this.#entries.keys()) {
      if (this.#size <= maxSize) return
      this.#drop(oldest)
    }
  }

  #drop(userId: number): void {
    const entry = this.#entries.get(userId)
    if (entry === undefined) return
    this.#entries.delete(userId)
    this.#size -= sizeOf(entry)
  }
}

const sizeOf = ({ excluded }: Entry): number => excluded.size + sizeOfReader
