/**
 * The log of grpc-js.
 */
import { setLogger } from "@grpc/grpc-js"
import { Effect } from "effect"

/**
 * Sends the log lines of grpc-js to Effect's logger, at Debug: they are for debugging; operational errors surface as statuses and are
 * logged there.
 */
export const redirect = Effect.gen(function* () {
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const log = (...message: ReadonlyArray<unknown>) => void runFork(Effect.logDebug("grpc-js:", ...message))
  setLogger({ error: log, info: log, debug: log })
})
