/**
 * Compressed requests, and methods that a server leaves unimplemented, which gRPC's interoperability tests need.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"

import type { ChannelOptions } from "../../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import { isCompressed } from "../../../src/layers/grpc/MessageCompression.ts"
import * as NodeGrpcServer from "../../../src/layers/grpc/server/NodeGrpcServer.ts"
import { Drain } from "../../../src/layers/process/Drain.ts"
import type { EchoRequest__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"
import * as Echo from "./Echo.ts"

/** A response that says whether the request was compressed. */
const flagOf = (request: EchoRequest__Output) => ({ text: String(isCompressed(request)), items: [] })

const handlers = {
  Echo: ((request) => Effect.succeed(flagOf(request))) as typeof Echo.handlers.Echo,
  Expand: ((request) => Stream.make(flagOf(request))) as typeof Echo.handlers.Expand,
  Chat: ((requests) => Stream.map(requests, flagOf)) as typeof Echo.handlers.Chat
}

const connect = (target: string, options: Partial<ChannelOptions> = {}) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(NodeGrpcChannel.layer({ target, ...options }))
    return yield* Effect.provideContext(GrpcClient.make(Echo.EchoService), context)
  })

describe("a request", () => {
  const sizes = [0, 1, 1_000, 100_000]
  const requests = sizes.map((size) => ({ text: "a".repeat(size) }))

  it.live.each([undefined, "gzip", "deflate"] as const)("is reported as compressed or not: %s", (compression) =>
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

describe("an unimplemented method", () => {
  it.live("fails with UNIMPLEMENTED, and the others are served", () =>
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
