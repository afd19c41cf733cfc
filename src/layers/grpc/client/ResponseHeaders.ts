/**
 * Checks the headers of responses before grpc-js reads them.
 *
 * It limits the memory that the headers and trailers of a response take in a client. Node limits their size, but grpc-js makes a Buffer
 * for each value of a `-bin` header: 64 kB of commas become 65,000 Buffers, several megabytes for each call.
 *
 * A response of HTTP 200 that is not gRPC, such as the page of a proxy, fails the call with UNKNOWN
 * (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md); grpc-js would take its first bytes for the length of a
 * message.
 *
 * A diagnostics channel of node:http2 announces each new client stream, so that the listener here runs before those of grpc-js. It
 * ignores streams that are not gRPC.
 */
import { subscribe } from "node:diagnostics_channel"
import {
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders
} from "node:http2"

import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import * as ContentType from "../ContentType.ts"

/** How many values a header may have whose name ends in "-bin". */
const maxBinaryValues = 64

const guard = CallbackGuard.make()

let isBounded = false

/** From now on, a call whose response has too many values is reset, and fails with RESOURCE_EXHAUSTED. */
export const bound = (): void => {
  if (isBounded) return
  isBounded = true
  const onCreated = guard("new HTTP/2 stream", (message: unknown) => {
    const { headers, stream } = message as { readonly stream: ClientHttp2Stream; readonly headers: OutgoingHttpHeaders }
    if (headers["content-type"] !== "application/grpc") return
    stream.on(
      "response",
      guard("response headers", (received: IncomingHttpHeaders & IncomingHttpStatusHeader) => {
        if (removeExcess(received)) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
        else if (received[":status"] === 200 && !ContentType.isGrpc(received)) {
          // grpc-js gives the status of HTTP with a call that has none of gRPC, unless it is 200
          Object.assign(received, { ":status": `200 with content type "${received["content-type"] ?? ""}"` })
        }
      })
    )
  })
  subscribe("http2.client.stream.created", onCreated)
}

/** Removes headers that have too many values, and says whether there were any. */
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
  // Node joins all values of a header, but for those of set-cookie
  if (typeof value !== "string") return 0
  let count = 1
  for (let at = value.indexOf(","); at !== -1; at = value.indexOf(",", at + 1)) count++
  return count
}
