/**
 * Changes the headers of a request that grpc-js misinterprets
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 *
 * - content-type: grpc-js accepts any value that begins with "application/grpc", including that of gRPC-Web, which is another protocol.
 * - grpc-timeout: grpc-js computes it in 32 bits of milliseconds, so a long one expires at once, and its pattern is not anchored, so
 *   "-5S" is parsed as five seconds.
 */
import type { IncomingHttpHeaders } from "node:http2"

import * as ContentType from "../ContentType.ts"

const timeout = /^(\d{1,8})([HMSmun])$/

const unitMillis: { readonly [unit: string]: number } = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

/** 24.8 days: the longest timeout in whole seconds that Node's timers can wait. */
const longestSeconds = Math.floor((2 ** 31 - 1) / 1000)

/**
 * Removes a content type other than gRPC's, so that grpc-js answers HTTP 415. Caps the timeout, and replaces a malformed one by a value
 * that grpc-js answers INTERNAL.
 */
export const prepare = (headers: IncomingHttpHeaders): void => {
  if (!ContentType.isGrpc(headers)) delete headers["content-type"]
  const value = headers["grpc-timeout"]
  if (typeof value !== "string") return
  const [, amount, unit] = timeout.exec(value) ?? []
  if (amount === undefined || unit === undefined) headers["grpc-timeout"] = "malformed"
  else if (Number(amount) * unitMillis[unit]! > longestSeconds * 1000) headers["grpc-timeout"] = `${longestSeconds}S`
}
