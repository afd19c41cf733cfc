/**
 * The echo server of `layers/testing` and its client in one process, with the defaults. The message `call` from the parent makes one
 * unary call, and is answered with `called` or `failed`. It sends `ready` once the server listens.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Exit } from "effect"

import { EchoServer } from "../src/layers/testing/EchoServer.ts"

Effect.gen(function* () {
  const { client } = yield* EchoServer
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const call = Effect.map(Effect.exit(client.Echo({ text: "hello" })), (exit) =>
    process.send?.(Exit.isSuccess(exit) ? "called" : "failed")
  )
  process.on("message", (message) => {
    if (message === "call") runFork(call)
  })
  process.send?.("ready")
  return yield* Effect.never
}).pipe(Effect.provide(EchoServer.layer()), NodeRuntime.runMain)
