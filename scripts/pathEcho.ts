/**
 * A server of the Echo service of `layers/testing` and its client in one process, with the defaults. The handler is here: it is that of
 * no service of this project. The message `call` from the parent makes one unary call, and is answered with `called` or `failed`. It
 * sends `ready` once the server listens.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Exit, Layer } from "effect"

import * as Address from "../src/layers/config/Address.ts"
import * as NodeGrpcChannel from "../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../src/layers/grpc/GrpcServer.ts"
import * as NodeGrpcServer from "../src/layers/grpc/server/NodeGrpcServer.ts"
import { Drain } from "../src/layers/process/Drain.ts"
import { EchoService } from "../src/layers/testing/EchoServer.ts"

const { unimplemented } = GrpcServer

const Server = GrpcServer.serve(
  EchoService,
  Effect.succeed({
    Echo: ({ text }) => Effect.succeed({ text, items: [] }),
    EchoOnce: unimplemented,
    Expand: unimplemented,
    Collect: unimplemented,
    Chat: unimplemented
  }),
  {}
).pipe(NodeGrpcServer.listen({ host: "127.0.0.1", port: 0 }), Layer.provide(Drain.layerTest()))

Effect.gen(function* () {
  const target = Address.format(yield* (yield* GrpcServer.GrpcServer).address)
  const channel = yield* Layer.build(NodeGrpcChannel.layer({ target }))
  const client = yield* Effect.provideContext(GrpcClient.make(EchoService), channel)
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const call = Effect.map(Effect.exit(client.Echo({ text: "hello" })), (exit) =>
    process.send?.(Exit.isSuccess(exit) ? "called" : "failed")
  )
  process.on("message", (message) => {
    if (message === "call") runFork(call)
  })
  process.send?.("ready")
  return yield* Effect.never
}).pipe(Effect.provide(Server), Effect.scoped, NodeRuntime.runMain)
