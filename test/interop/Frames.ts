/**
 * Raw gRPC messages and headers for tests of malformed calls.
 */
import * as Http2Frames from "../integration/Http2Frames.ts"

/** A length-prefixed message. The flag and the length may be wrong. */
export const frame = (message: Buffer, flag = 0, length = message.length): Buffer =>
  Http2Frames.message(message, { flag, length })

/** Headers with values of one character. */
export const manyHeaders = (count: number): { readonly [name: string]: string } =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`x-${index}`, "1"]))
