/**
 * The echo server of `layers/testing` and its client in one process, with the defaults. The message `call` from the parent makes one
 * unary call and is answered with `called`; the first `called` is sent once the server is ready.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Effect } from "effect"

import { EchoServer } from "../src/layers/testing/EchoServer.ts"

Effect.gen(function* () {
  const { client } = yield* EchoServer
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const reply = Effect.sync(() => process.send?.("called"))
  process.on("message", (message) => {
    if (message === "call") runFork(Effect.andThen(client.Echo({ text: "hello" }), reply))
  })
  yield* reply
  return yield* Effect.never
}).pipe(Effect.provide(EchoServer.layer()), NodeRuntime.runMain)
