/**
 * Tells whether a message came compressed: the compressed flag of the frame that it came in, which grpc-js keeps to itself.
 *
 * Messages are decompressed whether anybody asks or not. Asking is for protocols that depend on it, such as gRPC's interoperability
 * tests, and for debugging: a client that compresses is not visible anywhere else, since grpc-js removes `grpc-encoding` from the
 * metadata. Requests can always be asked about; responses only with a client that was made with `observeCompression`
 * ({@link GrpcClient.make}). What a server sends is never compressed: grpc-js does not offer it (grpc/grpc-node#1823).
 *
 * ```ts
 * Echo: (request) => Effect.succeed({ text: isCompressed(request) ? "compressed" : "plain", items: [] })
 * ```
 */
import { CompressionFilter } from "@grpc/grpc-js/build/src/compression-filter.js"

import type { Codec } from "./EmbeddedProtos.ts"

/** Decoded messages whose frames had the compressed flag. */
const compressedMessages = new WeakSet<object>()

/**
 * Whether a message, as a handler or a caller received it, came compressed. The object itself is asked about: a copy of it is not
 * known, and is reported as not compressed.
 */
export const isCompressed = (message: object): boolean => compressedMessages.has(message)

/** Notes that a message of a request was compressed. */
export const markCompressed = (message: unknown): void => {
  if (typeof message === "object" && message !== null) compressedMessages.add(message)
}

/** Bytes of responses that were compressed, after decompression. */
const compressedBytes = new WeakSet<Uint8Array>()

/** The part of grpc-js' CompressionFilter that decompresses a message, given in its frame. */
interface Decompressor {
  receiveMessage: (frame: Promise<Buffer>) => Promise<Buffer>
}

let isObserving = false

/**
 * Makes {@link isCompressed} work for responses, from now on and for all clients of this process. It replaces
 * `CompressionFilter.prototype.receiveMessage`, the only place of grpc-js where a client's compressed flag can be seen; the original
 * still does the work. Returns false if grpc-js has no such method any more.
 */
export const observeResponses = (): boolean => {
  const prototype = CompressionFilter.prototype as unknown as Decompressor
  const { receiveMessage } = prototype
  if (isObserving || typeof receiveMessage !== "function") return isObserving
  isObserving = true
  prototype.receiveMessage = async function (this: Decompressor, pending) {
    const frame = await pending
    const bytes = await receiveMessage.call(this, Promise.resolve(frame))
    if (frame[0] === 1) compressedBytes.add(bytes)
    return bytes
  }
  return true
}

/** Decodes responses so that {@link isCompressed} knows of them. */
export const observedDecode =
  (decode: Codec["decode"]): Codec["decode"] =>
  (bytes) => {
    const message = decode(bytes)
    if (compressedBytes.has(bytes)) compressedMessages.add(message)
    return message
  }
