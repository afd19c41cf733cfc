/**
 * What gRPC sends over HTTP/2, made by hand.
 */

/** A message in its frame, with any flag and length. */
export const frame = (message: Buffer, flag = 0, length = message.length): Buffer => {
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(length, 1)
  return Buffer.concat([prefix, message])
}

/** Headers with one character as their value. */
export const manyHeaders = (count: number): { readonly [name: string]: string } =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`x-${index}`, "1"]))
