/**
 * Counts and checks each new stream of a server before it is passed to grpc-js, which parses the headers of every stream. Streams of
 * clients that are not allowed, headers that would take too much memory, and HTTP methods other than POST, which grpc-js would serve like
 * POST, are answered here. Headers that grpc-js misinterprets are changed ({@link correctHeaders}).
 */
import {
  constants,
  type Http2Server,
  type Http2Session,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream
} from "node:http2"

import type { Guard, OnBug } from "../../telemetry/CallbackGuard.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { Peer } from "../GrpcCall.ts"
import * as MessageCodec from "../MessageCodec.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"
import type { Tracked } from "./ConnectionTable.ts"

/** The client of a connection. */
export interface Client {
  readonly peer: Peer
  /** Identifies the client, for fairness between clients: the names of its certificate and its network, without the port. */
  readonly client: string
}

/** A connection that is served. */
export interface Connection extends Client {
  /** Returns the status of a client that is not allowed, and undefined if it is. Undefined if every client is allowed. */
  readonly whyNotAllowed: (() => Status.Status | undefined) | undefined
  /** Counts its open calls. */
  readonly tracked: Pick<Tracked<unknown>, "openCalls" | "phase" | "since">
  /** Set by a graceful shutdown: called when the last stream has ended. */
  onIdle: (() => void) | undefined
}

/** A new stream. */
export interface NewStream {
  readonly stream: ServerHttp2Stream
  readonly headers: IncomingHttpHeaders
  readonly connection: Client
}

/** Receives the streams of a server. */
export interface Calls {
  /** The stream that is being passed to grpc-js. Must be removed when grpc-js creates a call for it, which it does synchronously. */
  entering: NewStream | undefined
  /** Called with each stream that was answered without a call. The status is undefined if grpc-js answered it. */
  readonly onRejectedStream: (stream: NewStream, status: Status.Status | undefined) => void
}

export interface Options<Served extends Connection> {
  /** The headers of one call, in bytes as HTTP/2 counts them. */
  readonly maxHeaderSize: number
  readonly guard: Guard
  readonly calls: Calls
  /** The connections that are served. A stream whose session has already closed has none. */
  readonly connections: ReadonlyMap<Http2Session, Served>
  /** Called with the first stream of a connection. */
  readonly onUsed: (connection: Served) => void
  /** Called after a stream was answered because of {@link Connection.whyNotAllowed}. */
  readonly onNotAllowed: (stream: ServerHttp2Stream) => void
}

/**
 * The maximum number of values in all `-bin` headers of a call together. grpc-js makes a Buffer of each value, and a header that HTTP/2
 * compresses to two bytes can contain thousands of commas.
 */
const maxBinaryValues = 64

/** The maximum number of headers of a call: Node's own default. */
const maxHeaders = 128

/** The overhead of a header besides its name and value, in bytes (RFC 9113, section 6.5.2). */
const headerOverhead = 32

type StreamListener = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  flags: number,
  rawHeaders: Array<string>
) => void

const closedConnection: Client = { peer: { address: "unknown", names: [] }, client: "unknown" }

const closed = Status.cancelled("The connection has been closed")

/** Replaces grpc-js' stream listeners of a server by one that calls them for accepted streams. */
export const install = <Served extends Connection>(http2: Http2Server, options: Options<Served>): void => {
  const { calls, connections, guard, maxHeaderSize, onNotAllowed, onUsed } = options
  const listeners = http2.listeners("stream") as unknown as ReadonlyArray<StreamListener>
  http2.removeAllListeners("stream")

  const refuse = (entering: NewStream, status: Status.Status) => {
    answer(entering.stream, status)
    calls.onRejectedStream(entering, status)
  }

  const onBug: OnBug<[ServerHttp2Stream, IncomingHttpHeaders]> = {
    annotations: ({ session }, headers) => {
      const peer = session && connections.get(session)?.peer
      return { method: headers[":path"]?.slice(1), ...(peer && PeerIdentity.annotations(peer)) }
    },
    recover: (stream) => {
      calls.entering = undefined
      // otherwise a later error of the grpc-js call would be an uncaught exception
      stream.on("error", () => {})
      stream.close(constants.NGHTTP2_INTERNAL_ERROR)
    }
  }

  const onClose = (connection: Served) => {
    try {
      const { tracked } = connection
      if (--tracked.openCalls > 0) return
      tracked.since = performance.now()
      connection.onIdle?.()
    } catch (exception) {
      guard.onException("stream close listener", exception)
    }
  }

  const onEach: StreamListener = (stream, headers, flags, rawHeaders) => {
    try {
      const connection = stream.session && connections.get(stream.session)
      const entering = { stream, headers, connection: connection ?? closedConnection }
      if (connection !== undefined) {
        const { tracked } = connection
        if (tracked.phase !== "used") onUsed(connection)
        if (++tracked.openCalls === 1) tracked.since = performance.now()
        stream.once("close", onClose.bind(undefined, connection))
      }
      const forbidden = connection === undefined ? closed : connection.whyNotAllowed?.()
      if (forbidden !== undefined) {
        refuse(entering, forbidden)
        return onNotAllowed(stream)
      }
      const tooLarge = whyTooLarge(rawHeaders, maxHeaderSize)
      if (tooLarge !== undefined) return refuse(entering, tooLarge)
      if (headers[":method"] !== "POST") {
        respond(stream, { ":status": constants.HTTP_STATUS_METHOD_NOT_ALLOWED, allow: "POST" })
        return calls.onRejectedStream(entering, methodNotAllowed)
      }
      correctHeaders(headers)
      calls.entering = entering
      for (const listener of listeners) listener(stream, headers, flags, rawHeaders)
      if (calls.entering === undefined) return
      calls.entering = undefined
      calls.onRejectedStream(entering, undefined)
    } catch (exception) {
      guard.onException("stream listener", exception, onBug, stream, headers)
    }
  }

  http2.on("stream", onEach as (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number) => void)
}

/** The status of HTTP 405 for observers, as gRPC clients map it. */
const methodNotAllowed = Status.unknown("The method of the HTTP request is not POST")

/** Answers a stream with a trailers-only response; the rest of the request is not read. */
const answer = (stream: ServerHttp2Stream, status: Status.Status): void => {
  const { code, details, metadata } = StatusCodec.encode(status)
  respond(stream, {
    ":status": 200,
    "content-type": "application/grpc+proto",
    ...metadata.toHttp2Headers(),
    "grpc-status": code,
    "grpc-message": encodeURI(details)
  })
}

/** Answers a stream with headers alone. */
const respond = (stream: ServerHttp2Stream, headers: OutgoingHttpHeaders): void => {
  stream.on("error", () => {})
  if (stream.destroyed || stream.closed || stream.headersSent) return
  stream.respond(headers, { endStream: true })
  stream.resume()
  // Stops the client from sending the rest of the request (RFC 9113, section 8.1). Sent at once, it would replace the response.
  setImmediate(() => {
    if (!stream.destroyed) stream.close(constants.NGHTTP2_NO_ERROR)
  })
}

/**
 * The status of headers that are too large; undefined if they are not. Node resets streams with headers above the limit only after the
 * client has acknowledged the SETTINGS, which may be never.
 */
const whyTooLarge = (rawHeaders: ReadonlyArray<string>, maxHeaderSize: number): Status.Status | undefined => {
  const headers = rawHeaders.length / 2
  if (headers > maxHeaders) {
    return Status.resourceExhausted(`Number of headers (${headers}) exceeds the limit of ${maxHeaders}`)
  }
  let size = 0
  let values = 0
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    const value = rawHeaders[i + 1]!
    size += name.length + value.length + headerOverhead
    if (name.endsWith("-bin")) values += 1 + commas(value)
  }
  if (size > maxHeaderSize) {
    return Status.resourceExhausted(`Headers of ${size} bytes exceed the limit of ${maxHeaderSize}`)
  }
  if (values > maxBinaryValues) {
    return Status.resourceExhausted(
      `Number of values of "-bin" headers (${values}) exceeds the limit of ${maxBinaryValues}`
    )
  }
  return undefined
}

const commas = (text: string): number => {
  let count = 0
  for (let at = text.indexOf(","); at !== -1; at = text.indexOf(",", at + 1)) count++
  return count
}

const timeout = /^(\d{1,8})([HMSmun])$/

const unitMillis: { readonly [unit: string]: number } = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

/** 24.8 days: the longest timeout in whole seconds that Node's timers can wait. */
const longestSeconds = Math.floor((2 ** 31 - 1) / 1000)

/**
 * Changes the headers of a request that grpc-js misinterprets
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 *
 * - content-type: grpc-js accepts any value that begins with "application/grpc", including that of gRPC-Web, which is another protocol.
 *   Others than gRPC's are removed, so that grpc-js answers HTTP 415.
 * - grpc-timeout: grpc-js computes it in 32 bits of milliseconds, so a long one expires at once, and its pattern is not anchored, so
 *   "-5S" is parsed as five seconds. Long ones are capped, and malformed ones replaced by a value that grpc-js answers INTERNAL.
 */
export const correctHeaders = (headers: IncomingHttpHeaders): void => {
  if (!MessageCodec.contentType.test(headers["content-type"] ?? "")) delete headers["content-type"]
  const value = headers["grpc-timeout"]
  if (typeof value !== "string") return
  const [, amount, unit] = timeout.exec(value) ?? []
  if (amount === undefined || unit === undefined) headers["grpc-timeout"] = "malformed"
  else if (Number(amount) * unitMillis[unit]! > longestSeconds * 1000) headers["grpc-timeout"] = `${longestSeconds}S`
}
