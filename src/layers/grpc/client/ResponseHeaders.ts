/**
 * Checks and corrects the headers and trailers of responses before grpc-js reads them:
 *
 * - It limits the memory of binary headers. Node limits the size of headers, but grpc-js creates a Buffer for each value of a `-bin`
 *   header, and values are separated by a single comma.
 * - A response of HTTP 200 that is not gRPC, such as the page of a proxy, fails the call with UNKNOWN
 *   (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md). grpc-js would parse its first bytes as a length
 *   prefix.
 * - A `grpc-status` that is not a decimal number is UNKNOWN. grpc-js accepts anything that JavaScript converts to a number, so it would read
 *   "" as OK.
 * - `grpc-message` is percent-decoded as a whole (see {@link StatusCodec.decodeMessage});
 *   grpc-js applies decodeURI, which leaves some characters encoded.
 *
 * It also releases the listeners of streams that have ended: see {@link ClosedStreams}.
 *
 * Diagnostics channels of node:http2 announce each new client stream, and the headers of its response before any listener receives them.
 * Streams that are not gRPC are ignored.
 */
import { subscribe } from "node:diagnostics_channel"
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2"

import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import * as ClosedStreams from "../grpc-js/ClosedStreams.ts"
import * as MessageCodec from "../MessageCodec.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"

/** Maximum number of values of a header whose name ends in "-bin". */
const maxBinaryValues = 64

let isInstalled = false

/** Checks the responses to all gRPC clients of this process from now on. */
export const install = (): void => {
  if (isInstalled) return
  isInstalled = true
  subscribe("http2.client.stream.created", onCreated as (message: unknown) => void)
  subscribe("http2.client.stream.finish", onResponse as (message: unknown) => void)
}

const { onException } = CallbackGuard.make()

/** The messages of both channels, the first with the headers of the request, the second with those of the response. */
interface StreamMessage {
  readonly stream: ClientHttp2Stream & {
    /** Undefined for a stream that the server has pushed. */
    readonly sentHeaders: OutgoingHttpHeaders | undefined
  }
  /** The object that listeners of the stream receive afterwards. */
  readonly headers: OutgoingHttpHeaders & IncomingHttpHeaders
}

const grpc = "application/grpc"

const onCreated = ({ headers, stream }: StreamMessage): void => {
  try {
    if (headers["content-type"] !== grpc) return
    stream.on("trailers", onTrailers)
    ClosedStreams.releaseListeners(stream)
  } catch (exception) {
    onException("new HTTP/2 stream", exception)
  }
}

const onResponse = ({ headers, stream }: StreamMessage): void => {
  try {
    if (stream.sentHeaders?.["content-type"] !== grpc) return
    if (removeExcess(headers)) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
    else if (headers[":status"] === 200 && !MessageCodec.contentType.test(headers["content-type"] ?? "")) {
      // grpc-js maps the HTTP status of a response without a gRPC status, unless it is 200
      Object.assign(headers, { ":status": `200 with content type "${headers["content-type"] ?? ""}"` })
    }
    // trailers-only response
    if (headers["grpc-status"] !== undefined) correctStatus(headers)
  } catch (exception) {
    onException("response headers", exception)
  }
}

const onTrailers = (headers: IncomingHttpHeaders): void => {
  try {
    if (removeExcess(headers)) {
      setStatus(headers, Status.codes.ResourceExhausted, "Too many values in the metadata of the response")
    }
    // an OK status needs no correction: its message is not used
    else if (headers["grpc-status"] !== "0") correctStatus(headers)
  } catch (exception) {
    onException("response trailers", exception)
  }
}

const setStatus = (headers: IncomingHttpHeaders, code: number, message: string): void => {
  headers["grpc-status"] = String(code)
  headers["grpc-message"] = message
}

const isDecimal = /^\d+$/

const correctStatus = (headers: IncomingHttpHeaders): void => {
  const code = headers["grpc-status"]
  if (code === undefined) return
  if (!isDecimal.test(String(code))) {
    return setStatus(headers, Status.codes.Unknown, "The status of the response is not a number")
  }
  const message = headers["grpc-message"]
  if (typeof message !== "string" || !message.includes("%")) return
  // grpc-js applies decodeURI; encodeURI reverses it
  headers["grpc-message"] = encodeURI(StatusCodec.decodeMessage(message).toWellFormed())
}

/** Removes binary headers that have too many values; returns whether there were any. */
export const removeExcess = (headers: IncomingHttpHeaders): boolean => {
  let isExcessive = false
  for (const name of Object.keys(headers)) {
    if (!name.endsWith("-bin") || countValues(headers[name]) <= maxBinaryValues) continue
    delete headers[name]
    isExcessive = true
  }
  return isExcessive
}

const countValues = (value: IncomingHttpHeaders[string]): number => {
  // Node joins all values of a header, except those of set-cookie
  if (typeof value !== "string") return 0
  let count = 1
  for (let at = value.indexOf(","); at !== -1; at = value.indexOf(",", at + 1)) count++
  return count
}
