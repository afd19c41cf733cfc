/**
 * Checks each new stream of a server before it is passed to grpc-js, which parses the headers of every stream. Streams of clients that
 * are not allowed, headers that would take too much memory, and HTTP methods other than POST, which grpc-js would serve like POST, are
 * answered here.
 */
import {
  constants,
  type Http2Server,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream
} from "node:http2"

import type { Guard } from "../../telemetry/CallbackGuard.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"

/** Called synchronously with a stream and its headers. */
export type OnStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void

export interface Options {
  /** The headers of one call, in bytes as HTTP/2 counts them. */
  readonly maxHeaderSize: number
  readonly guard: Guard
  /** The status of a client that is not allowed; undefined if it is. */
  readonly whyNotAllowed: (stream: ServerHttp2Stream) => Status.Status | undefined
  /** Called after a stream was answered because of {@link Options.whyNotAllowed}. */
  readonly onNotAllowed: (stream: ServerHttp2Stream) => void
  /** Called after each stream that was answered here, with its status; HTTP 405 is UNKNOWN. */
  readonly onRefusedStream: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, status: Status.Status) => void
  readonly onEntering?: OnStream | undefined
  readonly onStream: OnStream
  /** Annotations for the log line of a listener that threw. */
  readonly annotations: (stream: ServerHttp2Stream) => Readonly<Record<string, unknown>>
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

/** Replaces grpc-js' stream listeners of a server by one that calls them for accepted streams. */
export const install = (http2: Http2Server, options: Options): void => {
  const { annotations, guard, onEntering, onNotAllowed, onRefusedStream, onStream, whyNotAllowed } = options
  const listeners = http2.listeners("stream") as unknown as ReadonlyArray<StreamListener>
  http2.removeAllListeners("stream")

  const refuse = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, status: Status.Status) => {
    answer(stream, status)
    onRefusedStream(stream, headers, status)
  }

  const onEach: StreamListener = (stream, headers, flags, rawHeaders) => {
    const forbidden = whyNotAllowed(stream)
    if (forbidden !== undefined) {
      refuse(stream, headers, forbidden)
      return onNotAllowed(stream)
    }
    const tooLarge = whyTooLarge(rawHeaders, options.maxHeaderSize)
    if (tooLarge !== undefined) return refuse(stream, headers, tooLarge)
    if (headers[":method"] !== "POST") {
      respond(stream, { ":status": constants.HTTP_STATUS_METHOD_NOT_ALLOWED, allow: "POST" })
      return onRefusedStream(stream, headers, methodNotAllowed)
    }
    onEntering?.(stream, headers)
    for (const listener of listeners) listener(stream, headers, flags, rawHeaders)
    onStream(stream, headers)
  }

  http2.on(
    "stream",
    guard("stream listener", onEach, {
      annotations: (stream, headers) => ({ method: headers[":path"]?.slice(1), ...annotations(stream) }),
      recover: (stream) => {
        // otherwise a later error of the grpc-js call would be an uncaught exception
        stream.on("error", () => {})
        stream.close(constants.NGHTTP2_INTERNAL_ERROR)
      }
    }) as StreamListener
  )
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
