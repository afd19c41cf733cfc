/**
 * Whether a response is reported as compressed.
 */
import { constants, createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2"
import { gzipSync } from "node:zlib"

import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"

import type { ChannelOptions } from "../../../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import { isCompressed } from "../../../../src/layers/grpc/MessageCompression.ts"
import * as Echo from "../Echo.ts"

const connect = (target: string, options: Pick<ChannelOptions, "observeCompression"> = {}) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(NodeGrpcChannel.layer({ target, ...options }))
    return yield* Effect.provideContext(GrpcClient.make(Echo.EchoService), context)
  })

/** A server that answers every call with the same frames, written byte by byte. */
const answering = (frames: Buffer) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly target: string; readonly close: () => void }>((resume) => {
      const sessions = new Set<ServerHttp2Session>()
      const server = createServer()
      server.on("session", (session) => void sessions.add(session))
      server.on("stream", (stream: ServerHttp2Stream) => {
        stream.resume()
        stream.respond(
          { [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc", "grpc-encoding": "gzip" },
          { waitForTrailers: true }
        )
        stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }))
        for (const byte of frames) stream.write(Buffer.of(byte))
        stream.end()
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = address !== null && typeof address === "object" ? address.port : 0
        const close = () => {
          for (const session of sessions) session.destroy()
          server.close()
        }
        resume(Effect.succeed({ target: `127.0.0.1:${port}`, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const frame = (message: Buffer, compress: boolean) => {
  const bytes = compress ? gzipSync(message) : message
  const prefix = Buffer.alloc(5)
  prefix[0] = compress ? 1 : 0
  prefix.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([prefix, bytes])
}

describe("a response", () => {
  // an EchoResponse: field 1 is its text
  const message = Buffer.from("0a0161", "hex")

  it.live("is reported as compressed or not by a client that observes it", () =>
    Effect.gen(function* () {
      const flags = [true, false, true]
      const { target } = yield* answering(Buffer.concat(flags.map((compress) => frame(message, compress))))
      const observing = yield* connect(target, { observeCompression: true })
      const responses = yield* Stream.runCollect(observing.Expand({}))
      assert.deepStrictEqual(responses.map(isCompressed), flags)
      assert.deepStrictEqual(
        responses.map(({ text }) => text),
        ["a", "a", "a"]
      )
      // a client that does not observe it still decompresses
      const other = yield* connect(target)
      assert.deepStrictEqual((yield* Stream.runCollect(other.Expand({}))).map(isCompressed), [false, false, false])
    })
  )

  it.live.each([true, false])("of a unary call, compressed: %s", (compress) =>
    Effect.gen(function* () {
      const { target } = yield* answering(frame(message, compress))
      const client = yield* connect(target, { observeCompression: true })
      assert.strictEqual(isCompressed(yield* client.Echo({})), compress)
    })
  )
})
