/**
 * The logger: its level, its format and its outputs. The contents of a line are documented in {@link logFormat}.
 */
import { Console as NodeConsole } from "node:console"
import { Writable } from "node:stream"

import { Cause, Config, Console, Context, Effect, Layer, Logger, LogLevel, Option, References } from "effect"

import * as Setting from "../config/Setting.ts"
import { type Format, formatter } from "./logFormat.ts"
import * as LogOutput from "./LogOutput.ts"

/** The level and the format of the log. */
export interface Settings {
  /** The minimum level. */
  readonly level: LogLevel.LogLevel
  readonly format: Format
}

/** LOG_LEVEL and LOG_FORMAT. */
export const settings: Config.Config<Settings> = Config.all({
  level: Setting.oneOf("LOG_LEVEL", {
    description: "The minimum level, in upper or lower case.",
    words: LogLevel.values,
    unset: "`Info`"
  }).pipe(Config.map(Option.getOrElse(() => "Info" as const))),
  format: Setting.oneOf("LOG_FORMAT", {
    description: "Human-readable lines, or one JSON object per line.",
    words: ["pretty", "json"],
    unset: "`pretty` on a terminal, otherwise `json`"
  }).pipe(Config.map(Option.getOrElse(() => (process.stdout.isTTY ? "pretty" : "json"))))
})

/** The current level, which a signal may change. Undefined without {@link layer}: the fiber's minimum level applies. */
const Threshold = Context.Reference<{ level: LogLevel.LogLevel } | undefined>("layers/telemetry/Logging/Threshold", {
  defaultValue: () => undefined
})

/** Whether lines of a level are logged in a context. Use it before creating an expensive line. */
export const isEnabled = (level: LogLevel.LogLevel, context: Context.Context<never>): boolean => {
  const threshold = Context.get(context, Threshold)?.level ?? Context.get(context, References.MinimumLogLevel)
  return LogLevel.isGreaterThanOrEqualTo(level, threshold)
}

/** Logs to the Console service of the context that the layer is built in. SIGUSR2 toggles the level Debug. */
export const layer = (options: Settings) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const threshold = { level: options.level }
      const console = yield* Console.Console
      const output = Logger.map(formatter(options.format), (line) => console.log(line))
      const logger = Logger.make<unknown, void>((entry) => {
        if (LogLevel.isGreaterThanOrEqualTo(entry.logLevel, threshold.level)) output.log(entry)
      })
      const logging = Logger.layer([logger])

      // a process that starts with Debug or Trace is toggled to Info
      const isVerbose = LogLevel.isLessThanOrEqualTo(options.level, "Debug")
      const verbose = isVerbose ? options.level : "Debug"
      const quiet = isVerbose ? "Info" : options.level
      // with the log annotations of the layer's context
      const runFork = Effect.runForkWith(Context.merge(yield* Effect.context(), yield* Layer.build(logging)))
      const onSignal = () => {
        threshold.level = threshold.level === verbose ? quiet : verbose
        runFork(Effect.logInfo(`Debug logging is ${threshold.level === verbose ? "on" : "off"}`))
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => process.on("SIGUSR2", onSignal)),
        () => Effect.sync(() => process.off("SIGUSR2", onSignal))
      )
      return Layer.mergeAll(
        logging,
        Layer.succeed(Threshold, threshold),
        // fibers copy the minimum level at their start, so it must allow the levels that a signal may enable
        Layer.succeed(References.MinimumLogLevel, LogLevel.isLessThan(options.level, "Debug") ? options.level : "Debug")
      )
    })
  )

/** {@link layer} with {@link settings}, writing to the {@link LogOutput}s of the process. */
export const layerConfig = Layer.unwrap(
  Effect.map(settings, (options) => Layer.provideMerge(layer(options), consoleLayer(options.format)))
)

/** A console over the {@link LogOutput}s of the process. Dropped lines are reported by a log line. */
const consoleLayer = (format: Format) =>
  Layer.effect(
    Console.Console,
    Effect.withFiber((fiber) => {
      const outputs = { stdout: LogOutput.stdout(), stderr: LogOutput.stderr() }
      for (const [stream, output] of Object.entries(outputs)) {
        output.describeDropped = (count) => {
          const message = `${count} log lines dropped: ${stream} was not read or written in time`
          return `${formatter(format).log({ message, logLevel: "Warn", cause: Cause.empty, fiber, date: new Date() })}\n`
        }
      }
      return Effect.succeed(new NodeConsole({ stdout: toStream(outputs.stdout), stderr: toStream(outputs.stderr) }))
    })
  )

const toStream = (output: LogOutput.LogOutput) =>
  new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      output.write(chunk.toString())
      done()
    }
  })
