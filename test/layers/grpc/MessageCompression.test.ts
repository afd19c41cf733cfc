/**
 * Whether a message came compressed, and methods that are left out on purpose: what gRPC's interoperability tests ask of a library.
 */
import { constants, createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2"
import { gzipSync } from "node:zlib"

import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"

import * as NodeGrpcChannel from "../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcChannel from "../../../src/layers/grpc/GrpcChannel.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import { isCompressed } from "../../../src/layers/grpc/MessageCompression.ts"
import * as NodeGrpcServer from "../../../src/layers/grpc/server/NodeGrpcServer.ts"
import { Drain } from "../../../src/layers/process/Drain.ts"
import type { EchoRequest__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"
import * as Echo from "./Echo.ts"

/** Answers with whether the request, or each of them, was compressed. */
const flagOf = (request: EchoRequest__Output) => ({ text: String(isCompressed(request)), items: [] })

const handlers = {
  Echo: ((request) => Effect.succeed(flagOf(request))) as typeof Echo.handlers.Echo,
  Expand: ((request) => Stream.make(flagOf(request))) as typeof Echo.handlers.Expand,
  Chat: ((requests) => Stream.map(requests, flagOf)) as typeof Echo.handlers.Chat
}

const connect = (target: string, options: Partial<GrpcChannel.Options> & GrpcClient.Options = {}) =>
  Effect.gen(function* () {
    const { observeCompression, ...channel } = options
    const context = yield* Layer.build(NodeGrpcChannel.layer({ target, ...channel }))
    return yield* Effect.provideContext(GrpcClient.make(Echo.EchoService, { observeCompression }), context)
  })

describe("a request", () => {
  const sizes = [0, 1, 1_000, 100_000]
  const requests = sizes.map((size) => ({ text: "a".repeat(size) }))

  it.live.each([undefined, "gzip", "deflate"] as const)("is known to be compressed or not: %s", (compression) =>
    Effect.gen(function* () {
      const expected = String(compression !== undefined)
      const client = yield* connect(yield* Echo.target, compression === undefined ? {} : { compression })
      for (const request of requests) {
        assert.strictEqual((yield* client.Echo(request)).text, expected)
        assert.deepStrictEqual(
          (yield* Stream.runCollect(client.Expand(request))).map(({ text }) => text),
          [expected]
        )
      }
      const answers = yield* Stream.runCollect(client.Chat(Stream.fromIterable(requests)))
      assert.deepStrictEqual(
        answers.map(({ text }) => text),
        sizes.map(() => expected)
      )
    }).pipe(Effect.provide(Echo.serve(handlers)))
  )
})

/** A server that answers every call with the same frames, in pieces of one byte. */
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

  it.live("is known to be compressed or not by a client that observes it", () =>
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
      // one that does not reads it all the same
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

describe("a method that is left out on purpose", () => {
  it.live("is UNIMPLEMENTED, and the others are served", () =>
    Effect.gen(function* () {
      const context = yield* Layer.build(
        GrpcServer.serve(
          Echo.EchoService,
          Effect.succeed({ ...Echo.handlers, Echo: GrpcServer.unimplemented, Chat: GrpcServer.unimplemented }),
          { Refused: () => assert.fail(), Unavailable: () => assert.fail() }
        ).pipe(NodeGrpcServer.listen({ host: "127.0.0.1", port: 0 }))
      )
      yield* Effect.gen(function* () {
        const client = yield* Echo.client
        assert.strictEqual((yield* Effect.flip(client.Echo({}))).reason._tag, "Unimplemented")
        const chat = Stream.runCollect(client.Chat(Stream.make({})))
        assert.strictEqual((yield* Effect.flip(chat)).reason._tag, "Unimplemented")
        assert.strictEqual((yield* client.EchoOnce({ text: "a" })).text, "a")
      }).pipe(Effect.provideContext(context))
    }).pipe(Effect.provide(Drain.layerTest()))
  )
})
