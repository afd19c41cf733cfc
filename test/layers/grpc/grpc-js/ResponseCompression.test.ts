/**
 * Whether a response is reported as compressed.
 */
import { constants } from "node:http2"
import { gzipSync } from "node:zlib"

import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"

import type { ChannelOptions } from "../../../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import { isCompressed } from "../../../../src/layers/grpc/MessageCompression.ts"
import * as Echo from "../Echo.ts"
import * as Http2Backend from "../Http2Backend.ts"

const connect = (target: string, options: Pick<ChannelOptions, "observeCompression"> = {}) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(NodeGrpcChannel.layer({ target, ...options }))
    return yield* Effect.provideContext(GrpcClient.make(Echo.EchoService), context)
  })

/** Serves every call with the same frames, written byte by byte, and succeeds with the target. */
const answering = (frames: Buffer) =>
  Effect.map(
    Http2Backend.serve((stream) => {
      stream.respond(
        { [constants.HTTP2_HEADER_CONTENT_TYPE]: "application/grpc", "grpc-encoding": "gzip" },
        { waitForTrailers: true }
      )
      stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }))
      for (const byte of frames) stream.write(Buffer.of(byte))
      stream.end()
    }),
    (port) => `127.0.0.1:${port}`
  )

const frame = (message: Buffer, compress: boolean) =>
  Http2Backend.frame(compress ? gzipSync(message) : message, compress)

describe("a response", () => {
  // an EchoResponse: field 1 is its text
  const message = Buffer.from("0a0161", "hex")

  it.live("is reported as compressed or not by a client that observes it", () =>
    Effect.gen(function* () {
      const flags = [true, false, true]
      const target = yield* answering(Buffer.concat(flags.map((compress) => frame(message, compress))))
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
      const target = yield* answering(frame(message, compress))
      const client = yield* connect(target, { observeCompression: true })
      assert.strictEqual(isCompressed(yield* client.Echo({})), compress)
    })
  )
})
