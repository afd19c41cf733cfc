/**
 * A server on node:http2 alone, for responses that grpc-js never sends.
 */
import { createServer, type OutgoingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2"
import type { AddressInfo } from "node:net"

import { Effect, Layer } from "effect"

import type { ChannelOptions } from "../../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as Http2Frames from "../../integration/Http2Frames.ts"
import * as Echo from "./Echo.ts"

/** A message with its length prefix. */
export const frame = (message: Uint8Array, isCompressed = false): Buffer =>
  Http2Frames.message(message, { flag: isCompressed ? 1 : 0 })

/** A framed EchoResponse with a text of up to 125 bytes. */
export const response = (text: string): Buffer => {
  const bytes = Buffer.from(text)
  return frame(Buffer.concat([Buffer.from([0x0a, bytes.length]), bytes]))
}

/** Responds with headers, a body and trailers. */
export const respond = (
  stream: ServerHttp2Stream,
  body: Buffer,
  trailers: OutgoingHttpHeaders,
  headers: OutgoingHttpHeaders = {}
): void => {
  stream.respond({ ":status": 200, "content-type": "application/grpc", ...headers }, { waitForTrailers: true })
  stream.once("wantTrailers", () => stream.sendTrailers(trailers))
  stream.end(body)
}

/** Sends a Trailers-Only response: the status is in the headers. */
export const respondStatus = (stream: ServerHttp2Stream, trailers: OutgoingHttpHeaders): void =>
  stream.respond({ ":status": 200, "content-type": "application/grpc", ...trailers }, { endStream: true })

/** Serves on 127.0.0.1, and succeeds with the port. `answer` responds to a call once its request has ended. */
export const serve = (answer: (stream: ServerHttp2Stream, path: string) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
        const sessions = new Set<ServerHttp2Session>()
        const server = createServer()
        server.on("session", (session: ServerHttp2Session) => {
          sessions.add(session)
          session.on("error", () => {})
        })
        server.on("stream", (stream: ServerHttp2Stream, headers) => {
          stream.on("error", () => {})
          stream.on("end", () => answer(stream, headers[":path"] ?? ""))
          stream.resume()
        })
        server.listen(0, "127.0.0.1", () => {
          const close = () => {
            server.close()
            for (const session of sessions) session.destroy()
          }
          resume(Effect.succeed({ port: (server.address() as AddressInfo).port, close }))
        })
      }),
      ({ close }) => Effect.sync(close)
    ),
    ({ port }) => port
  )

/** A client of Echo for a port. */
export const connect = Effect.fnUntraced(function* (port: number, options: Partial<ChannelOptions> = {}) {
  const context = yield* Layer.build(NodeGrpcChannel.layer({ target: `127.0.0.1:${port}`, ...options }))
  return yield* Effect.provideContext(GrpcClient.make(Echo.EchoService), context)
})
