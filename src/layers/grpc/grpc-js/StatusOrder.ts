/**
 * Delivers the status of a failed call after the messages that the server sent before it.
 *
 * grpc-js delivers an OK status after all messages have been read, but any other status at once, and drops the messages that have not been
 * read yet. This patch delays grpc-js' handling of the trailers of a failed call until its messages have been read. A locally generated
 * status (cancellation, deadline, lost connection) is still delivered at once.
 *
 * Private members: the methods `handleTrailers` and `maybeOutputStatus` of `Http2SubchannelCall`, and its fields `http2Stream`,
 * `unpushedReadMessages` and `isPushPending`.
 *
 * Needed for correctness. Without it, a stream of responses that ends with an error may lose its last messages. The tests that fail
 * then are those of `test/layers/grpc/grpc-js/StatusOrder.test.ts`.
 */
import type { ClientHttp2Stream, IncomingHttpHeaders } from "node:http2"
import { PassThrough } from "node:stream"

import { Http2SubchannelCall } from "@grpc/grpc-js/build/src/subchannel-call.js"

import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import type { Patch } from "./compat.ts"

interface Call {
  readonly http2Stream: Pick<ClientHttp2Stream, "readableLength" | "once">
  /** Messages that have arrived and have not been requested by the reader. */
  readonly unpushedReadMessages: ReadonlyArray<unknown>
  /** Whether a message will be delivered in the next tick. */
  readonly isPushPending: boolean
  handleTrailers(headers: IncomingHttpHeaders): void
  /** Called whenever a message has been delivered, and at the end of the stream. */
  maybeOutputStatus(): void
  startRead(): void
}

const prototype = Http2SubchannelCall.prototype as unknown as Call

const hasUnreadMessages = ({ http2Stream, isPushPending, unpushedReadMessages }: Call) =>
  isPushPending || unpushedReadMessages.length > 0 || http2Stream.readableLength > 0

const apply = (): void => {
  const { handleTrailers, maybeOutputStatus } = prototype
  const guard = CallbackGuard.make()
  prototype.handleTrailers = function (this: Call, headers) {
    if (headers["grpc-status"] === "0" || !hasUnreadMessages(this)) return handleTrailers.call(this, headers)
    let isHeld = true
    const release = () => {
      if (!isHeld) return
      isHeld = false
      this.maybeOutputStatus = maybeOutputStatus
      handleTrailers.call(this, headers)
    }
    this.maybeOutputStatus = () => {
      if (!hasUnreadMessages(this)) release()
      maybeOutputStatus.call(this)
    }
    // messages that have not been read when the stream closes are lost, but the status is known
    this.http2Stream.once("close", guard("close of an HTTP/2 stream", release))
  }
}

/** Passes one message and its trailers to a call without a connection, and checks each member that the patch uses. */
const findMismatch = (): string | undefined => {
  const nameOf = (member: string) => `Http2SubchannelCall.${member}`
  for (const method of ["handleTrailers", "maybeOutputStatus"] as const) {
    if (typeof prototype[method] !== "function") return nameOf(method)
  }
  const stream = new PassThrough()
  const ignore = () => {}
  const call = new Http2SubchannelCall(
    stream as never,
    { addMessageReceived: ignore, onStreamEnd: ignore, onCallEnd: ignore } as never,
    { onReceiveMetadata: ignore, onReceiveMessage: ignore, onReceiveStatus: ignore },
    { getOptions: () => ({}) } as never,
    0
  ) as unknown as Call
  if (call.http2Stream !== (stream as unknown)) return nameOf("http2Stream")
  stream.emit("data", Buffer.alloc(5))
  if (!Array.isArray(call.unpushedReadMessages) || call.unpushedReadMessages.length !== 1) {
    return nameOf("unpushedReadMessages")
  }
  call.startRead()
  if (call.isPushPending !== true) return nameOf("isPushPending")
  let hasTrailers = false
  call.handleTrailers = () => {
    hasTrailers = true
  }
  stream.emit("trailers", {})
  return hasTrailers ? undefined : nameOf("handleTrailers")
}

export const patch: Patch = {
  name: "StatusOrder",
  findMismatch,
  apply,
  consequence: "a stream of responses that ends with an error may lose its last messages"
}
