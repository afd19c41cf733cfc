/**
 * The grpc-timeout header (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), within what grpc-js and Node's timers
 * can represent: 2^31 - 1 ms. grpc-js computes it in 32 bits, so that a longer one would be over at once, or wrong.
 */
import type { IncomingHttpHeaders } from "node:http2"

const header = "grpc-timeout"

/** Where grpc-js finds a timeout in the header. */
const timeout = /(\d{1,8})\s*([HMS])/

const unitMillis: { readonly [unit: string]: number } = { H: 3_600_000, M: 60_000, S: 1000 }

/** 24.8 days: the longest timeout in whole seconds that a timer of Node's can wait. */
const longestSeconds = Math.floor((2 ** 31 - 1) / 1000)

/** Replaces a timeout above the longest one with that. Any other value is left to grpc-js. */
export const cap = (headers: IncomingHttpHeaders): void => {
  const value = headers[header]
  if (typeof value !== "string") return
  const [, amount, unit] = timeout.exec(value) ?? []
  if (amount === undefined || unit === undefined) return
  if (Number(amount) * unitMillis[unit]! > longestSeconds * 1000) headers[header] = `${longestSeconds}S`
}
