/**
 * Records whether a message was received compressed: the compressed flag of its frame.
 *
 * Messages are always decompressed. Use this for protocols that depend on the flag, such as gRPC's interoperability tests, and for
 * debugging: grpc-js removes `grpc-encoding` from the metadata. A server records the flag of every request; a client records that of
 * responses only if its channel was made with `observeCompression`. Servers never compress responses, since grpc-js does not support it
 * (grpc/grpc-node#1823).
 *
 * ```ts
 * Echo: (request) => Effect.succeed({ text: isCompressed(request) ? "compressed" : "plain", items: [] })
 * ```
 */

/** Messages, decoded or not, whose frames had the compressed flag. */
const compressedMessages = new WeakSet<object>()

/** Whether a message was received compressed. Pass the object that a handler or a caller received: a copy is reported as uncompressed. */
export const isCompressed = (message: object): boolean => compressedMessages.has(message)

/** Marks a message as received compressed. */
export const markCompressed = (message: unknown): void => {
  if (typeof message === "object" && message !== null) compressedMessages.add(message)
}
