/**
 * What grpc-js has to say by itself.
 */
import { setLogger } from "@grpc/grpc-js"
import { Effect } from "effect"

/**
 * Sends grpc-js's own log lines to Effect's logger, at Debug. They tell its developers how it is doing; what concerns an
 * operator comes back as an error, and is told once.
 */
export const redirect = Effect.gen(function* () {
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const log = (...message: ReadonlyArray<unknown>) => void runFork(Effect.logDebug("grpc-js:", ...message))
  setLogger({ error: log, info: log, debug: log })
})
