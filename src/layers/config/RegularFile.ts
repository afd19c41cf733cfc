/**
 * Reads a file that a setting or an argument names, in chunks. Only regular files and the standard input (`/dev/stdin`) are read: a device
 * may be infinite, and opening a pipe blocks until it has a writer.
 */
import { createHash } from "node:crypto"

import { Data, Effect, FileSystem, PlatformError } from "effect"

/** The number of bytes to read at a time. */
export const chunkSize = 131_072

/** The path of the standard input, which can be read only once. */
export const standardInput = "/dev/stdin"

/** The path is not a regular file, the file is larger than allowed, or the standard input has been read already. */
export class UnsuitableFile extends Data.TaggedError("UnsuitableFile")<{
  readonly reason:
    | { readonly _tag: "NotRegular"; readonly type: FileSystem.File.Type }
    | { readonly _tag: "TooLarge"; readonly maximum: number }
    | { readonly _tag: "AlreadyRead" }
}> {}

/** What happens with the chunks of a file. */
export interface Consumer<E = never, R = never> {
  /** The buffer for the next chunk. */
  readonly buffer: () => Uint8Array
  /** Uses the first `count` bytes of that buffer. The file is read on afterwards. */
  readonly use: (count: number) => Effect.Effect<void, E, R>
}

/** The errors of a file that cannot be read. */
export type FileProblem = UnsuitableFile | PlatformError.PlatformError

/**
 * Reads a file of at most `maxSize` bytes to its end, and returns the SHA-256 of its bytes, in lower-case hexadecimal. It can be interrupted
 * between two chunks.
 */
export const read = <E, R>(
  path: string,
  maxSize: number,
  consumer: Consumer<E, R>
): Effect.Effect<string, FileProblem | E, FileSystem.FileSystem | R> =>
  path === standardInput
    ? Effect.flatMap(openStandardInput, (readChunk) => readToEnd(readChunk, maxSize, consumer))
    : Effect.scoped(Effect.flatMap(open(path, maxSize), (readChunk) => readToEnd(readChunk, maxSize, consumer)))

/** The SHA-256 of a regular file of at most `maxSize` bytes, in lower-case hexadecimal. */
export const sha256 = (path: string, maxSize: number): Effect.Effect<string, FileProblem, FileSystem.FileSystem> =>
  Effect.suspend(() => {
    const chunk = new Uint8Array(chunkSize)
    const ignore: Consumer = { buffer: () => chunk, use: () => Effect.void }
    return Effect.scoped(Effect.flatMap(open(path, maxSize), (readChunk) => readToEnd(readChunk, maxSize, ignore)))
  })

const readToEnd = Effect.fnUntraced(function* <E, R>(
  readChunk: ReadChunk,
  maxSize: number,
  { buffer, use }: Consumer<E, R>
): Effect.fn.Return<string, FileProblem | E, R> {
  const hash = createHash("sha256")
  // the file may grow while it is read, and files in /proc have size 0
  for (let total = 0; ;) {
    const chunk = buffer()
    const count = yield* readChunk(chunk)
    if (count === 0) return hash.digest("hex")
    total += count
    if (total > maxSize) return yield* tooLarge(maxSize)
    hash.update(chunk.subarray(0, count))
    yield* use(count)
  }
})

const tooLarge = (maximum: number) => new UnsuitableFile({ reason: { _tag: "TooLarge", maximum } })

/** Reads the next bytes into a buffer, and returns their number; 0 at the end. */
type ReadChunk = (buffer: Uint8Array) => Effect.Effect<number, PlatformError.PlatformError>

const open = Effect.fnUntraced(function* (path: string, maxSize: number) {
  const fs = yield* FileSystem.FileSystem
  const { size, type } = yield* fs.stat(path)
  if (type !== "File") return yield* new UnsuitableFile({ reason: { _tag: "NotRegular", type } })
  if (size > maxSize) return yield* tooLarge(maxSize)
  const file = yield* fs.open(path)
  const readChunk: ReadChunk = (buffer) => Effect.map(file.read(buffer), Number)
  return readChunk
})

let isStandardInputRead = false

const openStandardInput = Effect.suspend(() => {
  if (isStandardInputRead) return Effect.fail(new UnsuitableFile({ reason: { _tag: "AlreadyRead" } }))
  isStandardInputRead = true
  return Effect.succeed(standardInputChunks())
})

/** Not by Effect's FileSystem: that reads at positions, which a pipe does not have, and opens the path, which a socket does not allow. */
const standardInputChunks = (): ReadChunk => {
  const chunks = process.stdin[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, undefined>
  /** What did not fit into the last buffer. */
  let rest = new Uint8Array(0)
  const read = async (buffer: Uint8Array) => {
    if (rest.length === 0) rest = new Uint8Array((await chunks.next()).value ?? [])
    const count = Math.min(rest.length, buffer.length)
    buffer.set(rest.subarray(0, count))
    rest = rest.subarray(count)
    return count
  }
  return (buffer) => Effect.tryPromise({ try: () => read(buffer), catch: (cause) => toPlatformError(cause) })
}

const toPlatformError = (cause: unknown) =>
  PlatformError.systemError({ _tag: "Unknown", module: "RegularFile", method: "read", cause })
