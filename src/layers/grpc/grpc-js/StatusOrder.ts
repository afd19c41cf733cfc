/**
 * The order in which a client hears of what a server sent: all messages first, and the status after them, whatever it is. And the
 * message of that status, which grpc-js decodes in part only: see {@link StatusCodec.decodeMessage}.
 */
import type { ClientHttp2Stream, IncomingHttpHeaders } from "node:http2"

import { Http2SubchannelCall } from "@grpc/grpc-js/build/src/subchannel-call.js"

import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import * as ResponseHeaders from "../client/ResponseHeaders.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"

/** What is needed here of grpc-js' call on a connection, and what it keeps to itself. */
interface Call {
  readonly http2Stream: ClientHttp2Stream
  readonly unpushedReadMessages: ReadonlyArray<unknown>
  readonly isPushPending: boolean
  handleTrailers(headers: IncomingHttpHeaders): void
  /** Called whenever a message has been taken, and at the end of them. */
  maybeOutputStatus(): void
}

let isKept = false

/**
 * grpc-js keeps a status of OK back until all messages have been read, but gives any other one at once, and drops the messages
 * that its reader has not taken yet, as many as there happen to be. From now on, it looks at the trailers of a call that has
 * failed after its messages. What ends a call on this side (it is cancelled, its time is over, its connection is lost) still
 * does so at once.
 */
export const keep = (): void => {
  if (isKept) return
  isKept = true
  const prototype = Http2SubchannelCall.prototype as unknown as Call
  const { handleTrailers, maybeOutputStatus } = prototype
  if (typeof handleTrailers !== "function" || typeof maybeOutputStatus !== "function") {
    throw new Error("grpc-js does not handle trailers as it did: see whether it keeps the order by itself")
  }
  const held = new WeakMap<Call, IncomingHttpHeaders>()
  const guard = CallbackGuard.make()
  const release = (call: Call) => {
    const trailers = held.get(call)
    if (trailers === undefined) return
    held.delete(call)
    handleTrailers.call(call, trailers)
  }
  const hasMessages = ({ http2Stream, isPushPending, unpushedReadMessages }: Call) =>
    isPushPending || unpushedReadMessages.length > 0 || http2Stream.readableLength > 0

  prototype.handleTrailers = function (this: Call, headers) {
    prepare(headers)
    if (headers["grpc-status"] === "0" || !hasMessages(this)) return handleTrailers.call(this, headers)
    held.set(this, headers)
    // what has not been read by then is lost, but what became of the call is known
    this.http2Stream.once(
      "close",
      guard("close of an HTTP/2 stream", () => release(this))
    )
  }
  prototype.maybeOutputStatus = function (this: Call) {
    if (held.has(this) && !hasMessages(this)) release(this)
    maybeOutputStatus.call(this)
  }
}

/** As gRPC writes it. grpc-js takes all that JavaScript makes a number of, and so "" and "0x0" for OK. */
const isCode = /^\d+$/

/** Makes of trailers what grpc-js reads as it is meant, at a bounded cost. */
const prepare = (headers: IncomingHttpHeaders): void => {
  if (ResponseHeaders.removeExcess(headers)) {
    headers["grpc-status"] = String(Status.codes.ResourceExhausted)
    headers["grpc-message"] = "Too many values in the metadata of the response"
    return
  }
  const code = headers["grpc-status"]
  if (code !== undefined && !isCode.test(String(code))) {
    headers["grpc-status"] = String(Status.codes.Unknown)
    headers["grpc-message"] = "The status of the response is not a number"
    return
  }
  const message = headers["grpc-message"]
  if (typeof message !== "string" || !message.includes("%")) return
  // grpc-js undoes this, and nothing else, by decodeURI
  headers["grpc-message"] = encodeURI(StatusCodec.decodeMessage(message).toWellFormed())
}
