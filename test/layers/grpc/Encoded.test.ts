import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"

import type { GrpcError } from "../../../src/layers/grpc/GrpcError.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import { Encoded } from "../../../src/layers/grpc/MessageCodec.ts"
import * as NodeGrpcServer from "../../../src/layers/grpc/server/NodeGrpcServer.ts"
import { Drain } from "../../../src/layers/process/Drain.ts"
import type { EchoRequest__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoRequest.ts"
import type { EchoResponse__Output } from "../../../src/layers/testing/generated/onlinebooks/layers/testing/EchoResponse.ts"
import * as Echo from "./Echo.ts"

/** A response with a text of up to 127 bytes, encoded. */
const encoded = (text: string) => {
  const bytes = Buffer.from(text)
  return new Encoded<EchoResponse__Output>(Buffer.concat([Buffer.of(0x0a, bytes.length), bytes]))
}

const maxResponseSize = 50

/** Responds with encoded messages, except for the second message of Expand. */
const EncodedEcho = GrpcServer.serve(
  Echo.EchoService,
  Effect.succeed({
    Echo: ({ text }: EchoRequest__Output) => Effect.succeed(encoded(text)),
    EchoOnce: ({ text }: EchoRequest__Output) => Effect.succeed(encoded(text)),
    Expand: ({ text }: EchoRequest__Output) => Stream.make(encoded(text), { text, items: [] }, encoded(text)),
    Collect: (requests: Stream.Stream<EchoRequest__Output>) =>
      Effect.map(Stream.runCollect(requests), (all) => encoded(all.map(({ text }) => text).join(" "))),
    Chat: (requests: Stream.Stream<EchoRequest__Output>) => Stream.map(requests, ({ text }) => encoded(text))
  }),
  {}
).pipe(
  NodeGrpcServer.listen({ host: "127.0.0.1", port: 0, limits: { maxResponseSize } }),
  Layer.provide(Drain.layerTest())
)

layer(EncodedEcho, { excludeTestServices: true })("an encoded response", (it) => {
  it.effect("is decoded by the client like any other", () =>
    Effect.gen(function* () {
      const client = yield* Echo.client
      assert.deepStrictEqual(yield* client.Echo({ text: "é" }), { text: "é", items: [] })
      const requests = Stream.make({ text: "a" }, { text: "b" })
      assert.deepStrictEqual(yield* client.Collect(requests), { text: "a b", items: [] })
    })
  )

  it.effect("can be mixed with plain responses in a stream", () =>
    Effect.gen(function* () {
      const client = yield* Echo.client
      const response = { text: "a", items: [] }
      assert.deepStrictEqual(yield* Stream.runCollect(client.Expand({ text: "a" })), [response, response, response])
      const requests = Stream.make({ text: "a" }, { text: "a" })
      assert.deepStrictEqual(yield* Stream.runCollect(client.Chat(requests)), [response, response])
    })
  )

  it.effect("has the same size limit as any other", () =>
    Effect.gen(function* () {
      const client = yield* Echo.client
      const fits = "x".repeat(maxResponseSize - 2)
      assert.strictEqual((yield* client.EchoOnce({ text: fits })).text, fits)
      const calls: ReadonlyArray<Effect.Effect<unknown, GrpcError>> = [
        client.EchoOnce({ text: `${fits}x` }),
        Stream.runCollect(client.Expand({ text: `${fits}x` }))
      ]
      for (const call of calls) {
        const { reason } = yield* Effect.flip(call)
        assert.deepInclude(reason, {
          _tag: "ResourceExhausted",
          message: `Response of ${maxResponseSize + 1} bytes exceeds the limit of ${maxResponseSize}`
        })
      }
    })
  )
})
