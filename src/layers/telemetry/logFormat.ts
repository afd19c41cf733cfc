/**
 * The formats of log lines.
 *
 * Each line has the annotations of its fiber, such as service and version. Within a trace it has `trace_id` and `span_id`
 * (https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/), and within a request its {@link RequestAnnotations}.
 */
import { formatWithOptions } from "node:util"

import { Console, Context, type Fiber, Logger, References } from "effect"

import * as LogTruncation from "./LogTruncation.ts"

/**
 * Returns the annotations of a line within a request, such as its peer; undefined outside of requests. A server provides it to its
 * handlers. It is called when a line is written, so a request without log lines incurs no cost.
 */
export const RequestAnnotations = Context.Reference<
  (context: Context.Context<never>) => Readonly<Record<string, unknown>> | undefined
>("layers/telemetry/RequestAnnotations", { defaultValue: () => () => undefined })

/** Human-readable lines, or one JSON object per line. */
export type Format = "pretty" | "json"

/** Formats a line without its final line break. A pretty line has further, indented lines. */
export const formatter = (format: Format): Logger.Logger<unknown, string> =>
  withTraceAndRequest(format === "pretty" ? pretty : Logger.map(Logger.formatStructured, LogTruncation.json))

/** Effect's pretty format, truncated, with control characters escaped. */
const pretty: Logger.Logger<unknown, string> = Logger.make((entry) => {
  const messages = Array.isArray(entry.message) ? entry.message : [entry.message]
  const annotations = Object.entries(entry.fiber.getRef(References.CurrentLogAnnotations))
  const parts = new LineParts(entry.cause.reasons.length > 0)
  Logger.consolePretty({ mode: "tty" }).log({
    ...entry,
    message: messages.map(sanitize),
    fiber: withReferences(entry.fiber, [
      [
        References.CurrentLogAnnotations,
        Object.fromEntries(annotations.map(([key, value]) => [String(sanitize(key)), sanitize(value)]))
      ],
      [Console.Console, parts.console]
    ])
  })
  return parts.text
})

const sanitize = (value: unknown): unknown =>
  typeof value === "string" ? escapeControls(LogTruncation.text(value, LogTruncation.limits.field), /\p{Cc}/gu) : value

/** Escapes control characters, with which callers could control the terminal of a reader. JSON escapes them already. */
const escapeControls = (value: string, controls: RegExp): string =>
  value.replaceAll(controls, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** Collects the parts that Effect's pretty logger writes to a console: the first line, then the cause if any, then further values. */
class LineParts {
  readonly #hasCause: boolean
  readonly #parts: Array<string> = []

  constructor(hasCause: boolean) {
    this.#hasCause = hasCause
  }

  readonly console = Object.assign(Object.create(globalThis.console) as Console.Console, {
    log: (...args: ReadonlyArray<unknown>) => {
      const part = formatWithOptions({ colors: process.stdout.isTTY }, ...args)
      const isCause = this.#hasCause && this.#parts.length === 1
      // plus 200 for the escape sequences of colours
      const limit = isCause ? LogTruncation.limits.cause : LogTruncation.limits.field + 200
      const truncated = LogTruncation.text(isCause ? escapeControls(part, /[^\P{Cc}\n\t]/gu) : part, limit)
      this.#parts.push(this.#parts.length === 0 ? truncated : `  ${truncated.replaceAll("\n", "\n  ")}`)
    },
    group: () => {},
    groupEnd: () => {}
  })

  get text(): string {
    const text = this.#parts.join("\n")
    const truncated = LogTruncation.text(text, LogTruncation.maxLine)
    return truncated === text || !process.stdout.isTTY ? truncated : `${truncated}\u001b[0m`
  }
}

/** Adds the annotations of the trace and of the request, which are computed only for lines that are written. */
const withTraceAndRequest = <Output>(output: Logger.Logger<unknown, Output>): Logger.Logger<unknown, Output> =>
  Logger.make((entry) => output.log({ ...entry, fiber: annotated(entry.fiber) }))

const annotated = (fiber: Fiber.Fiber<unknown, unknown>): Fiber.Fiber<unknown, unknown> => {
  const span = fiber.cache.span
  const request = fiber.getRef(RequestAnnotations)(fiber.context)
  if (span === undefined && request === undefined) return fiber
  const annotations = {
    ...(span === undefined ? {} : { trace_id: span.traceId, span_id: span.spanId }),
    ...request,
    ...fiber.getRef(References.CurrentLogAnnotations)
  }
  return withReferences(fiber, [[References.CurrentLogAnnotations, annotations]])
}

/** A view of the fiber in which some references have other values. */
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
