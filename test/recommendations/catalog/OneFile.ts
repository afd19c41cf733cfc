/**
 * A file system to read from.
 */
import { Effect, FileSystem } from "effect"

const info = (type: FileSystem.File.Type, size: number) =>
  Effect.succeed({ type, size } as unknown as FileSystem.File.Info)

/** One whose only file, of any name, has these bytes. Each time it is read it gives so many of them at the most. Its size may be told wrong. */
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

/** One whose only file is something else. */
export const other = (type: FileSystem.File.Type) =>
  FileSystem.layerNoop({ stat: () => info(type, 0), open: () => Effect.die(new Error("it was opened")) })
