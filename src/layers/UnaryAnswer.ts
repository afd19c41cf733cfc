/**
 * Answers a call of grpc-js with OK and one message, by HTTP/2 itself. There is nothing to be asked or decided of such an answer: its
 * headers and trailers are always the same, and its message has gRPC's prefix already. grpc-js copies the message, makes two Metadata
 * and seven objects of headers for each answer, sends four headers more than gRPC asks for
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), and the end after the message and not with it. All other
 * answers are its own.
 */
import type { ServerHttp2Stream } from "node:http2"

import type { ServerInterceptingCallInterface } from "@grpc/grpc-js"

const headers = { ":status": 200, "content-type": "application/grpc+proto" }
const trailers = { "grpc-status": 0 }
const options = { waitForTrailers: true, sendDate: false }

/** What grpc-js keeps to itself of a call. */
interface Call {
  metadataSent: boolean
  wantTrailers: boolean
}

/** Whether grpc-js has what this needs to tell it: of another version, its own way is taken. */
export const isKnown = (call: ServerInterceptingCallInterface): boolean =>
  (call as unknown as Call).metadataSent === false && (call as unknown as Call).wantTrailers === false

/** Sends a message in its frame, and OK, on the stream of a call of which nothing has been sent. */
export const send = (call: ServerInterceptingCallInterface, stream: ServerHttp2Stream, frame: Buffer): void => {
  // the client has gone, and grpc-js is about to say so
  if (stream.destroyed || stream.closed) return
  // the deadline may be over before the client has taken the answer: then grpc-js has nothing more to send
  const told = call as unknown as Call
  told.metadataSent = true
  told.wantTrailers = true
  stream.respond(headers, options)
  stream.once("wantTrailers", sendTrailers)
  stream.end(frame)
}

function sendTrailers(this: ServerHttp2Stream): void {
  this.sendTrailers(trailers)
}
