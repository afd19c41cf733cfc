/**
 * What gRPC puts around each message on its way (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): a byte that says
 * that it is not compressed, and four that say how long it is.
 */

/** How many bytes come before those of the message. */
export const prefixSize = 5

/** Writes what comes before a message that is in the rest of a frame already. */
export const complete = (frame: Buffer): Buffer => {
  frame[0] = 0
  frame.writeUInt32BE(frame.length - prefixSize, 1)
  return frame
}

/** A message in its frame. */
export const of = (message: Uint8Array): Buffer => {
  const frame = Buffer.allocUnsafe(prefixSize + message.length)
  frame.set(message, prefixSize)
  return complete(frame)
}

/** The message in a frame. */
export const messageOf = (frame: Buffer): Buffer => frame.subarray(prefixSize)
