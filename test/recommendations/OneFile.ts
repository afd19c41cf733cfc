/**
 * A file system to read from.
 */
import { Effect, FileSystem } from "effect"

const info = (type: FileSystem.File.Type) => Effect.succeed({ type } as FileSystem.File.Info)

/** One whose only file, of any name, has these bytes. Each time it is read it gives so many of them at the most. */
export const layer = (bytes: Uint8Array, partSize = Infinity) =>
  FileSystem.layerNoop({
    stat: () => info("File"),
    open: () =>
      Effect.sync(() => {
        let position = 0
        const read: FileSystem.File["read"] = (buffer) =>
          Effect.sync(() => {
            const part = bytes.subarray(position, position + Math.min(buffer.length, partSize))
            buffer.set(part)
            position += part.length
            return part.length
          })
        return { read } as FileSystem.File
      })
  })

/** One with a pipe that these bytes come through. */
export const pipe = (bytes: Uint8Array) =>
  FileSystem.layerNoop({ stat: () => info("FIFO"), readFile: () => Effect.succeed(bytes) })
