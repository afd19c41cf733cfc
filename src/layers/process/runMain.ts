/**
 * Runs the main effect of a process: exit codes, error output, and uncaught exceptions.
 */
import { Cause, ConfigProvider, Effect, Option, Predicate, Runtime } from "effect"

import * as Setting from "../config/Setting.ts"
import * as CallbackGuard from "../telemetry/CallbackGuard.ts"
import * as LogOutput from "../telemetry/LogOutput.ts"

/**
 * Runs the main effect of a process. Exits with 0 on success. A typed failure, such as a bad setting or a port in use, prints its
 * message on stderr and exits with 1. A defect prints its stack and exits with 1.
 */
export const runMain = <E, A>(main: Effect.Effect<A, E>): void =>
  run(Effect.provideService(main, ConfigProvider.ConfigProvider, Setting.environment()), {
    disableErrorReporting: true
  })

const run = Runtime.makeRunMain(({ fiber }) => {
  const [stdout, stderr] = [LogOutput.stdout(), LogOutput.stderr()]
  fiber.addObserver((exit) => {
    const code = exit._tag === "Success" ? 0 : 1
    // process.exit discards data that a pipe has not accepted yet
    const leave = guard("last log line", () => stdout.flush(() => stderr.flush(() => process.exit(code))))
    if (exit._tag === "Success") leave()
    // not through LogOutput: the message of a bad catalogue may exceed its capacity
    else process.stderr.write(`${explain(exit.cause)}\n`, leave)
    // a reader that has stopped reading must not delay the exit
    setTimeout(
      guard("exit", () => process.exit(code)),
      outputTimeout
    )
  })
})

const guard = CallbackGuard.make()

/** How long the exit waits for the reader of the output to take the last lines, in milliseconds. */
const outputTimeout = 2_000

const explain = (cause: Cause.Cause<unknown>): string =>
  Cause.findErrorOption(cause).pipe(
    Option.filter((error) => Predicate.hasProperty(error, "message")),
    Option.match({ onNone: () => Cause.pretty(cause), onSome: (error) => String(error.message) })
  )

/**
 * While the scope is open, logs an uncaught exception or an unhandled rejection and ends the process with exit code 1 at once, since
 * its state is undefined (https://nodejs.org/api/process.html#warning-using-uncaughtexception-correctly).
 */
export const exitOnUncaught = Effect.gen(function* () {
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const onUncaught = (error: unknown, origin: NodeJS.UncaughtExceptionOrigin) => {
    try {
      const line = Effect.logFatal("Uncaught exception: the process exits", Cause.die(error))
      runFork(Effect.annotateLogs(line, { origin }))
    } finally {
      // the exit listener of LogOutput writes the lines that are still queued
      process.exit(1)
    }
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("uncaughtException", onUncaught)),
    () => Effect.sync(() => process.off("uncaughtException", onUncaught))
  )
})
