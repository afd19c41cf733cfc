/**
 * File systems for tests, with one file at every path.
 */
import { Effect, FileSystem } from "effect"

const info = (type: FileSystem.File.Type, size: number) =>
  Effect.succeed({ type, size } as unknown as FileSystem.File.Info)

/** The file has these bytes. A read returns at most `partSize` of them. `size` is what `stat` reports. */
export const layer = (bytes: Uint8Array, partSize = Infinity, { size = bytes.length } = {}) =>
  FileSystem.layerNoop({
    stat: () => info("File", size),
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

/** The file is not a regular file, and must not be opened. */
export const other = (type: FileSystem.File.Type) =>
  FileSystem.layerNoop({ stat: () => info(type, 0), open: () => Effect.die(new Error("it was opened")) })
