/**
 * Where log lines go, and which.
 */
import { Config, Effect, Layer, Logger, LogLevel, Option, References } from "effect"

import * as Setting from "./Setting.ts"

export interface Settings {
  /** The least severe level that is logged. */
  readonly level: LogLevel.LogLevel
  /** One JSON object a line for machines, or lines for people. */
  readonly format: "pretty" | "json"
}

/** LOG_LEVEL (Info) and LOG_FORMAT (pretty on a terminal, json elsewhere). */
export const settings: Config.Config<Settings> = Config.all({
  level: Setting.oneOf("LOG_LEVEL", LogLevel.values).pipe(Config.map(Option.getOrElse(() => "Info" as const))),
  format: Setting.oneOf("LOG_FORMAT", ["pretty", "json"]).pipe(
    Config.map(Option.getOrElse(() => (process.stdout.isTTY ? "pretty" : "json")))
  )
})

/** Logs to stdout. SIGUSR2 switches Debug on, and off again. */
export const layer = (options: Settings) =>
  Layer.unwrap(
    Effect.gen(function* () {
      let level = options.level
      const output = options.format === "pretty" ? Logger.consolePretty() : Logger.consoleJson
      const logger = Logger.make<unknown, void>((entry) => {
        if (LogLevel.isGreaterThanOrEqualTo(entry.logLevel, level)) output.log(entry)
      })
      const logging = Logger.layer([logger])

      const runFork = Effect.runForkWith(yield* Layer.build(logging))
      const onSignal = () => {
        level = level === "Debug" ? options.level : "Debug"
        runFork(Effect.logInfo(`Debug logging is ${level === "Debug" ? "on" : "off"}`))
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => process.on("SIGUSR2", onSignal)),
        () => Effect.sync(() => process.off("SIGUSR2", onSignal))
      )
      return Layer.merge(
        logging,
        // fibers keep the level they start with, so it must let through what a signal may switch on
        Layer.succeed(References.MinimumLogLevel, LogLevel.isLessThan(level, "Debug") ? level : "Debug")
      )
    })
  )

/** As {@link layer}, by {@link settings}. */
export const layerConfig = Layer.unwrap(Effect.map(settings, layer))

/** Puts the service's name on each line that a layer logs, as long as it lives. */
export const forService =
  (service: string) =>
  <A, E, R>(self: Layer.Layer<A, E, R>): Layer.Layer<A, E, R> =>
    Layer.provide(self, Layer.succeed(References.CurrentLogAnnotations, { service }))
