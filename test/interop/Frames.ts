/**
 * Raw gRPC messages and headers for tests of malformed calls.
 */

/** A length-prefixed message. The flag and the length may be wrong. */
export const frame = (message: Buffer, flag = 0, length = message.length): Buffer => {
  const prefix = Buffer.alloc(5)
  prefix[0] = flag
  prefix.writeUInt32BE(length, 1)
  return Buffer.concat([prefix, message])
}

/** Headers with values of one character. */
export const manyHeaders = (count: number): { readonly [name: string]: string } =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`x-${index}`, "1"]))
