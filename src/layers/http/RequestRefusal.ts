/**
 * The reasons for which requests are refused before they reach the application, and the responses to them.
 */
import type { IncomingMessage } from "node:http"

/** A status and the reason for metrics and the log. */
export type Refusal = readonly [status: number, reason: string]

/** Refusals of requests whose headers were parsed. */
export const requestRefusals = {
  tooManyHeaders: [431, "too many headers"],
  noHost: [400, "no Host"],
  severalHosts: [400, "several Hosts"],
  brokenHost: [400, "a broken Host"],
  foreignHost: [421, "a Host that is not served"],
  expectation: [417, "an expectation"],
  connectionLimit: [503, "too many requests of a connection"],
  addressLimit: [503, "too many requests of an address"],
  overload: [503, "overload"]
} as const satisfies Readonly<Record<string, Refusal>>

/** Refusals of requests that Node's parser rejects, by the code of its error. */
export const parseFailures: Readonly<Record<string, Refusal>> = {
  HPE_HEADER_OVERFLOW: [431, "headers too large"],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, "chunk extensions too large"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "timeout"]
}

/** The refusal for all other errors of the parser. */
export const invalidRequest: Refusal = [400, "no valid request"]

export const connectRefusal: Refusal = [405, "CONNECT"]

/** The reason phrases of all refusals. */
export const statusTexts: Readonly<Record<number, string>> = {
  400: "Bad request",
  405: "Method not allowed",
  408: "Request timeout",
  413: "Content too large",
  417: "Expectation failed",
  421: "Misdirected request",
  431: "Request header fields too large",
  503: "Service unavailable"
}

/** A complete response to write to a socket, for connections without a parsed request. It closes the connection. */
export const rawResponse = (status: number): string =>
  `HTTP/1.1 ${status} ${statusTexts[status]}\r\nConnection: close\r\nContent-Length: 0\r\n` +
  `${status === 503 ? "Retry-After: 1\r\n" : ""}\r\n`

/** A Host header: a host with or without a port (RFC 9110, section 7.2). */
const hostPattern = /^(\[[\da-fA-F:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d*)?$/

/** The maximum number of headers, more than any client sends. Node limits their size. */
const maxHeaders = 128

/**
 * Returns the refusal of a request with invalid headers; undefined if they are valid. `servesHost` returns whether a host, without its
 * port, is served; others are refused with 421 (RFC 9110, section 7.4).
 */
export const checkHeaders = (
  { headers, httpVersion, rawHeaders }: IncomingMessage,
  servesHost: ((host: string) => boolean) | undefined
): Refusal | undefined => {
  if (rawHeaders.length > 2 * maxHeaders) return requestRefusals.tooManyHeaders
  let hosts = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    if (name.length === 4 && name.toLowerCase() === "host") hosts++
  }
  if (hosts === 0) return httpVersion === "1.0" ? undefined : requestRefusals.noHost
  if (hosts > 1) return requestRefusals.severalHosts
  const [, host] = hostPattern.exec(headers.host ?? "") ?? []
  if (host === undefined) return requestRefusals.brokenHost
  return servesHost === undefined || servesHost(host) ? undefined : requestRefusals.foreignHost
}
