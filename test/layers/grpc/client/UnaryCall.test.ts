/**
 * Exceptions in the callbacks of a unary call, which grpc-js would not catch.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"

import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import { GrpcChannel, type ResponseMetadata } from "../../../../src/layers/grpc/GrpcChannel.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import { EchoServer, EchoService } from "../../../../src/layers/testing/EchoServer.ts"
import * as Logs from "../../telemetry/Logs.ts"

/** A client whose listener for response metadata throws when it receives a part of it, and another one. One call may be in flight. */
const connect = Effect.fnUntraced(function* (part: keyof ResponseMetadata) {
  const { target } = yield* EchoServer
  const channel = Context.get(
    yield* Layer.build(NodeGrpcChannel.layer({ target, policy: { maxCalls: 1 } })),
    GrpcChannel
  )
  const onResponseMetadata = (metadata: Partial<ResponseMetadata>) => {
    if (part in metadata) throw new Error("a bug")
  }
  const throwing = GrpcChannel.of({
    ...channel,
    unary: (call, request) => channel.unary({ ...call, onResponseMetadata }, request)
  })
  const make = GrpcClient.make(EchoService)
  return {
    throwing: yield* Effect.provideService(make, GrpcChannel, throwing),
    client: yield* Effect.provideService(make, GrpcChannel, channel)
  }
})

describe("an exception in a callback of a unary call", () => {
  it.live.each([
    { part: "headers", callback: "response headers of a gRPC call" },
    { part: "trailers", callback: "status of a gRPC call" }
  ] as const)("fails the call with INTERNAL, is logged, and releases the client: $callback", ({ callback, part }) => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const { client, throwing } = yield* connect(part)
      const { reason } = yield* Effect.flip(throwing.Echo({ text: "fail" }))
      assert.deepStrictEqual([reason._tag, reason.message], ["Internal", "Internal error of the client"])
      const [line, ...others] = logs.lines().filter(({ message }) => message === `Exception in a callback: ${callback}`)
      assert.deepInclude(line?.annotations, { method: `/${EchoService.name}/Echo` })
      assert.match(line?.cause ?? "", /a bug/)
      assert.deepStrictEqual(others, [])
      assert.strictEqual((yield* client.Echo({ text: "next" })).text, "next")
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(EchoServer.layer(), logs.layer)))
  })
})
