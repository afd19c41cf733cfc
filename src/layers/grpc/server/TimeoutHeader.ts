/**
 * The grpc-timeout header (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), within what grpc-js and Node's timers
 * can represent: 2^31 - 1 ms. grpc-js computes it in 32 bits, so that a longer one would be over at once, or wrong; and it looks for
 * a timeout anywhere in the header, so that "-5S" would be five seconds and "100000000S" none.
 */
import type { IncomingHttpHeaders } from "node:http2"

const header = "grpc-timeout"

const timeout = /^(\d{1,8})([HMSmun])$/

const unitMillis: { readonly [unit: string]: number } = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

/** 24.8 days: the longest timeout in whole seconds that a timer of Node's can wait. */
const longestSeconds = Math.floor((2 ** 31 - 1) / 1000)

/** Replaces a timeout above the longest one with that, and one that is malformed with a value that grpc-js refuses as INTERNAL. */
export const cap = (headers: IncomingHttpHeaders): void => {
  const value = headers[header]
  if (typeof value !== "string") return
  const [, amount, unit] = timeout.exec(value) ?? []
  if (amount === undefined || unit === undefined) headers[header] = "malformed"
  else if (Number(amount) * unitMillis[unit]! > longestSeconds * 1000) headers[header] = `${longestSeconds}S`
}
