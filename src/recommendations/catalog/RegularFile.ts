/**
 * Reads a regular file in chunks. Other files are refused: a device may be infinite, and opening a pipe blocks until it has a writer.
 */
import { createHash } from "node:crypto"

import { Data, Effect, FileSystem, type PlatformError } from "effect"

/** The number of bytes to read at a time. */
export const chunkSize = 131_072

/** The path is not a regular file, or the file is larger than allowed. */
export class UnsuitableFile extends Data.TaggedError("UnsuitableFile")<{
  readonly reason:
    | { readonly _tag: "NotRegular"; readonly type: FileSystem.File.Type }
    | { readonly _tag: "TooLarge"; readonly maximum: number }
}> {}

/** What happens with the chunks of a file. */
export interface Consumer<E = never, R = never> {
  /** The buffer for the next chunk. */
  readonly buffer: () => Uint8Array
  /** Uses the first `count` bytes of that buffer. The file is read on afterwards. */
  readonly use: (count: number) => Effect.Effect<void, E, R>
}

/** Reads a file of at most `maxSize` bytes to its end. It can be interrupted between two chunks. */
export const read = <E, R>(
  path: string,
  maxSize: number,
  { buffer, use }: Consumer<E, R>
): Effect.Effect<void, UnsuitableFile | PlatformError.PlatformError | E, FileSystem.FileSystem | R> =>
  Effect.scoped(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { size, type } = yield* fs.stat(path)
      if (type !== "File") return yield* new UnsuitableFile({ reason: { _tag: "NotRegular", type } })
      const tooLarge = new UnsuitableFile({ reason: { _tag: "TooLarge", maximum: maxSize } })
      if (size > maxSize) return yield* tooLarge
      const file = yield* fs.open(path)
      // the file may grow while it is read, and files in /proc have size 0
      for (let total = 0; ;) {
        const count = Number(yield* file.read(buffer()))
        if (count === 0) return
        total += count
        if (total > maxSize) return yield* tooLarge
        yield* use(count)
      }
    })
  )

/** The SHA-256 of a file of at most `maxSize` bytes, in lower-case hexadecimal. */
export const sha256 = (path: string, maxSize: number) =>
  Effect.suspend(() => {
    const hash = createHash("sha256")
    const chunk = new Uint8Array(chunkSize)
    const hashChunk = (count: number) => Effect.sync(() => void hash.update(chunk.subarray(0, count)))
    return Effect.map(read(path, maxSize, { buffer: () => chunk, use: hashChunk }), () => hash.digest("hex"))
  })
