/**
 * Tells whether a message came compressed: the compressed flag of its frame.
 *
 * Messages are decompressed in any case. This is for protocols that depend on the flag, such as gRPC's interoperability tests, and for
 * debugging: grpc-js removes `grpc-encoding` from the metadata. A server knows it of every request; a client knows it of responses only if
 * its channel was made with `observeCompression`. Servers never compress responses, since grpc-js does not support it
 * (grpc/grpc-node#1823).
 *
 * ```ts
 * Echo: (request) => Effect.succeed({ text: isCompressed(request) ? "compressed" : "plain", items: [] })
 * ```
 */

/** Messages, decoded or not, whose frames had the compressed flag. */
const compressedMessages = new WeakSet<object>()

/** Whether a message came compressed. Ask about the object that a handler or a caller received: a copy is reported as not compressed. */
export const isCompressed = (message: object): boolean => compressedMessages.has(message)

/** Notes that a message was compressed. */
export const markCompressed = (message: unknown): void => {
  if (typeof message === "object" && message !== null) compressedMessages.add(message)
}
