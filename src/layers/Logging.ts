/**
 * Where log lines go, and which.
 *
 * A line says which service it is of, and which version; within a call, its trace and span too (by the names that OpenTelemetry has
 * for them in logs, https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/), and who called.
 */
import { Config, Context, Effect, type Fiber, Layer, Logger, LogLevel, Option, References, type Tracer } from "effect"

import { GrpcCall } from "./GrpcCall.ts"
import * as PeerIdentity from "./PeerIdentity.ts"
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

/** What is logged now, where a signal may change it; otherwise what the fiber says. */
const Threshold = Context.Reference<(() => LogLevel.LogLevel) | undefined>("onlinebooks/layers/Logging/Threshold", {
  defaultValue: () => undefined
})

/** Whether lines of a level are logged, by a context: for those that cost something to make. */
export const isEnabled = (level: LogLevel.LogLevel, context: Context.Context<never>): boolean => {
  const threshold = Context.get(context, Threshold)?.() ?? Context.get(context, References.MinimumLogLevel)
  return LogLevel.isGreaterThanOrEqualTo(level, threshold)
}

/** Logs to stdout. SIGUSR2 switches Debug on, and off again. */
export const layer = (options: Settings) =>
  Layer.unwrap(
    Effect.gen(function* () {
      let level = options.level
      const output = inContext(options.format === "pretty" ? onOneLine(Logger.consolePretty()) : Logger.consoleJson)
      const logger = Logger.make<unknown, void>((entry) => {
        if (LogLevel.isGreaterThanOrEqualTo(entry.logLevel, level)) output.log(entry)
      })
      const logging = Logger.layer([logger])

      // one that begins with Debug can do without it too
      const isVerbose = LogLevel.isLessThanOrEqualTo(options.level, "Debug")
      const verbose = isVerbose ? options.level : "Debug"
      const quiet = isVerbose ? "Info" : options.level
      // with what annotates the lines of whoever it is a layer of
      const runFork = Effect.runForkWith(Context.merge(yield* Effect.context(), yield* Layer.build(logging)))
      const onSignal = () => {
        level = level === verbose ? quiet : verbose
        runFork(Effect.logInfo(`Debug logging is ${level === verbose ? "on" : "off"}`))
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => process.on("SIGUSR2", onSignal)),
        () => Effect.sync(() => process.off("SIGUSR2", onSignal))
      )
      return Layer.mergeAll(
        logging,
        Layer.succeed(Threshold, () => level),
        // fibers keep the level they start with, so it must let through what a signal may switch on
        Layer.succeed(References.MinimumLogLevel, LogLevel.isLessThan(level, "Debug") ? level : "Debug")
      )
    })
  )

/** As {@link layer}, by {@link settings}. */
export const layerConfig = Layer.unwrap(Effect.map(settings, layer))

/** Shows what would control a terminal, which strangers may have written: JSON does so by itself. */
const onOneLine = (output: Logger.Logger<unknown, void>): Logger.Logger<unknown, void> =>
  Logger.make((entry) => {
    const messages = Array.isArray(entry.message) ? entry.message : [entry.message]
    const annotations = Object.entries(entry.fiber.getRef(References.CurrentLogAnnotations))
    output.log({
      ...entry,
      message: messages.map(visible),
      fiber: withAnnotations(entry.fiber, Object.fromEntries(annotations.map(([key, value]) => [key, visible(value)])))
    })
  })

const visible = (value: unknown): unknown =>
  typeof value === "string"
    ? value.replaceAll(/\p{Cc}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`)
    : value

/** Annotates lines with what is known of where they come from, which costs nothing until there is a line. */
const inContext = (output: Logger.Logger<unknown, void>): Logger.Logger<unknown, void> =>
  Logger.make((entry) => output.log({ ...entry, fiber: annotated(entry.fiber) }))

const annotated = (fiber: Fiber.Fiber<unknown, unknown>): Fiber.Fiber<unknown, unknown> => {
  const span = fiber.cache.span
  const call = Context.getOrUndefined(fiber.context, GrpcCall)
  if (span === undefined && call === undefined) return fiber
  const annotations = {
    ...(span === undefined ? {} : traceOf(span)),
    ...(call === undefined ? {} : PeerIdentity.annotations(call.peer)),
    ...fiber.getRef(References.CurrentLogAnnotations)
  }
  return withAnnotations(fiber, annotations)
}

const withAnnotations = (
  fiber: Fiber.Fiber<unknown, unknown>,
  annotations: Readonly<Record<string, unknown>>
): Fiber.Fiber<unknown, unknown> =>
  Object.create(fiber, {
    getRef: {
      value: <A>(reference: Context.Reference<A>) =>
        (reference as unknown) === References.CurrentLogAnnotations ? annotations : fiber.getRef(reference)
    }
  }) as Fiber.Fiber<unknown, unknown>

const traceOf = (span: Tracer.AnySpan): Record<string, string> => ({ trace_id: span.traceId, span_id: span.spanId })
