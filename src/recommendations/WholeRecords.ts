/**
 * A CSV file piece by piece, so that no more than a piece of it is in memory. A piece is a number of whole records: each can be
 * read by itself, and what is wrong with one is found in it alone.
 */
import { Effect, FileSystem, type PlatformError } from "effect"

/** How much is read at a time, in bytes. */
const chunkSize = 131_072

const lineFeed = 0x0a
const carriageReturn = 0x0d
const quote = 0x22

/**
 * Gives each piece of a file to `use`, in turn, which has the bytes until it has ended. The more of a file is one record, the more
 * of it is one piece; and so may be what comes after a quote that is broken.
 */
export const forEach = <E>(
  path: string,
  use: (piece: Uint8Array) => Effect.Effect<void, E>
): Effect.Effect<void, E | PlatformError.PlatformError, FileSystem.FileSystem> =>
  Effect.scoped(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      if ((yield* fs.stat(path)).type !== "File") {
        // a pipe has no positions to be read at: it is one piece
        const bytes = yield* fs.readFile(path)
        if (bytes.length > 0) yield* use(bytes)
        return
      }
      const file = yield* fs.open(path)
      let buffer = new Uint8Array(chunkSize)
      // there are bytes up to here, of which those up to `end` are whole records
      let filled = 0
      let end = 0
      let isQuoted = false
      while (true) {
        if (filled === buffer.length) {
          const larger = new Uint8Array(buffer.length * 2)
          larger.set(buffer)
          buffer = larger
        }
        const count = yield* file.read(buffer.subarray(filled))
        if (count === 0) break
        const until = filled + count
        for (; filled < until; filled++) {
          const byte = buffer[filled]
          if (!isQuoted) {
            if (byte === lineFeed) end = filled + 1
            else if (filled > 0 && buffer[filled - 1] === carriageReturn) end = filled
          }
          // a quote in a quoted field is written as two
          if (byte === quote) isQuoted = !isQuoted
        }
        if (end > 0) {
          yield* use(buffer.subarray(0, end))
          buffer.copyWithin(0, end, filled)
          filled -= end
          end = 0
        }
      }
      if (filled > 0) yield* use(buffer.subarray(0, filled))
    })
  )
