/**
 * Where log lines go, and which.
 *
 * A line says which service it is of, and which version; within a call, its trace and span too (by the names that OpenTelemetry has
 * for them in logs, https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/), and who called.
 */
import { Console as NodeConsole } from "node:console"
import { Writable } from "node:stream"
import { formatWithOptions } from "node:util"

import {
  Cause,
  Config,
  Console,
  Context,
  Effect,
  type Fiber,
  Layer,
  Logger,
  LogLevel,
  Option,
  References,
  type Tracer
} from "effect"

import * as Setting from "../config/Setting.ts"
import * as LogOutput from "./LogOutput.ts"
import * as LogTruncation from "./LogTruncation.ts"
import { RequestAnnotations } from "./RequestAnnotations.ts"

export interface Settings {
  /** The least severe level that is logged. */
  readonly level: LogLevel.LogLevel
  /** One JSON object a line for machines, or lines for people. */
  readonly format: "pretty" | "json"
}

/** LOG_LEVEL and LOG_FORMAT. */
export const settings: Config.Config<Settings> = Config.all({
  level: Setting.oneOf("LOG_LEVEL", {
    description: "The least severe level that is logged, in upper or lower case.",
    words: LogLevel.values,
    unset: "`Info`"
  }).pipe(Config.map(Option.getOrElse(() => "Info" as const))),
  format: Setting.oneOf("LOG_FORMAT", {
    description: "Lines for people, or one JSON object a line.",
    words: ["pretty", "json"],
    unset: "`pretty` on a terminal, else `json`"
  }).pipe(Config.map(Option.getOrElse(() => (process.stdout.isTTY ? "pretty" : "json"))))
})

/** What is logged now, where a signal may change it; otherwise what the fiber says. */
const Threshold = Context.Reference<(() => LogLevel.LogLevel) | undefined>("layers/telemetry/Logging/Threshold", {
  defaultValue: () => undefined
})

/** Whether lines of a level are logged, by a context: for those that cost something to make. */
export const isEnabled = (level: LogLevel.LogLevel, context: Context.Context<never>): boolean => {
  const threshold = Context.get(context, Threshold)?.() ?? Context.get(context, References.MinimumLogLevel)
  return LogLevel.isGreaterThanOrEqualTo(level, threshold)
}

/** Logs to the console that there is when the layer is built. SIGUSR2 switches Debug on, and off again. */
export const layer = (options: Settings) =>
  Layer.unwrap(
    Effect.gen(function* () {
      let level = options.level
      const console = yield* Console.Console
      const output = Logger.map(formatter(options.format), (line) => console.log(line))
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

/** As {@link layer}, by {@link settings}, to the {@link LogOutput} of the process. */
export const layerConfig = Layer.unwrap(
  Effect.map(settings, (options) => Layer.provideMerge(layer(options), consoleLayer(options.format)))
)

/** A console that writes to stdout and stderr by {@link LogOutput}, which says in a line of the log how many it has dropped. */
const consoleLayer = (format: Settings["format"]) =>
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

/** The text of a line, without its line break; lines for people have further ones below them. */
const formatter = (format: Settings["format"]): Logger.Logger<unknown, string> =>
  inContext(format === "pretty" ? pretty : Logger.map(Logger.formatStructured, LogTruncation.json))

/** As Effect's logger for people writes it, clipped, and without what would control a terminal. */
const pretty: Logger.Logger<unknown, string> = Logger.make((entry) => {
  const messages = Array.isArray(entry.message) ? entry.message : [entry.message]
  const annotations = Object.entries(entry.fiber.getRef(References.CurrentLogAnnotations))
  const pieces = new Pieces(entry.cause.reasons.length > 0)
  Logger.consolePretty({ mode: "tty" }).log({
    ...entry,
    message: messages.map(shown),
    fiber: withReferences(entry.fiber, [
      [
        References.CurrentLogAnnotations,
        Object.fromEntries(annotations.map(([key, value]) => [String(shown(key)), shown(value)]))
      ],
      [Console.Console, pieces.console]
    ])
  })
  return pieces.text
})

const shown = (value: unknown): unknown =>
  typeof value === "string" ? visible(LogTruncation.text(value, LogTruncation.limits.field), /\p{Cc}/gu) : value

/** Shows what would control a terminal, which strangers may have written: JSON does so by itself. */
const visible = (value: string, controls: RegExp): string =>
  value.replaceAll(controls, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** What a line for people is made of: its first line, then indented its cause if it has one, and what else there is. */
class Pieces {
  readonly #hasCause: boolean
  readonly #pieces: Array<string> = []

  constructor(hasCause: boolean) {
    this.#hasCause = hasCause
  }

  readonly console = Object.assign(Object.create(globalThis.console) as Console.Console, {
    log: (...args: ReadonlyArray<unknown>) => {
      const piece = formatWithOptions({ colors: process.stdout.isTTY }, ...args)
      const isCause = this.#hasCause && this.#pieces.length === 1
      // colours take a few characters of their own
      const limit = isCause ? LogTruncation.limits.cause : LogTruncation.limits.field + 200
      const clipped = LogTruncation.text(isCause ? visible(piece, /[^\P{Cc}\n\t]/gu) : piece, limit)
      this.#pieces.push(this.#pieces.length === 0 ? clipped : `  ${clipped.replaceAll("\n", "\n  ")}`)
    },
    group: () => {},
    groupEnd: () => {}
  })

  get text(): string {
    const text = this.#pieces.join("\n")
    const clipped = LogTruncation.text(text, LogTruncation.maxLine)
    return clipped === text || !process.stdout.isTTY ? clipped : `${clipped}\u001b[0m`
  }
}

/** Annotates lines with what is known of where they come from, which costs nothing until there is a line. */
const inContext = <Output>(output: Logger.Logger<unknown, Output>): Logger.Logger<unknown, Output> =>
  Logger.make((entry) => output.log({ ...entry, fiber: annotated(entry.fiber) }))

const annotated = (fiber: Fiber.Fiber<unknown, unknown>): Fiber.Fiber<unknown, unknown> => {
  const span = fiber.cache.span
  const request = fiber.getRef(RequestAnnotations)(fiber.context)
  if (span === undefined && request === undefined) return fiber
  const annotations = {
    ...(span === undefined ? {} : traceOf(span)),
    ...request,
    ...fiber.getRef(References.CurrentLogAnnotations)
  }
  return withAnnotations(fiber, annotations)
}

const withAnnotations = (fiber: Fiber.Fiber<unknown, unknown>, annotations: Readonly<Record<string, unknown>>) =>
  withReferences(fiber, [[References.CurrentLogAnnotations, annotations]])

/** The fiber, with other values of references. */
const withReferences = (
  fiber: Fiber.Fiber<unknown, unknown>,
  values: ReadonlyArray<readonly [reference: unknown, value: unknown]>
): Fiber.Fiber<unknown, unknown> => {
  const byReference = new Map(values)
  return Object.create(fiber, {
    getRef: {
      value: <A>(reference: Context.Reference<A>) =>
        byReference.has(reference) ? byReference.get(reference) : fiber.getRef(reference)
    }
  }) as Fiber.Fiber<unknown, unknown>
}

const traceOf = (span: Tracer.AnySpan): Record<string, string> => ({ trace_id: span.traceId, span_id: span.spanId })
