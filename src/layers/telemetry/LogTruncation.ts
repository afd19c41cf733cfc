/**
 * Limits the size of log lines (each field, the cause and the whole line), since callers control parts of them.
 */
import { Formatter } from "effect"

/** Maximum length of a field and of the cause, in UTF-16 code units. */
export interface Limits {
  readonly field: number
  readonly cause: number
}

/** The limits unless the whole line is too long. */
export const limits: Limits = { field: 1000, cause: 6000 }

/** Maximum size of a line with its line break, in bytes. */
export const maxLine = 8192

/** A line in the format of `Logger.formatStructured`. */
export interface Line {
  readonly message: unknown
  readonly level: string
  readonly timestamp: string
  readonly cause: string | undefined
  readonly annotations: Record<string, unknown>
  readonly spans: Record<string, number>
  readonly fiberId: string
}

/** Truncates a text that is longer than a limit and appends the number of removed code units. Never splits a surrogate pair. */
export const text = (value: string, limit: number): string => {
  if (value.length <= limit) return value
  const end = isHighSurrogate(value.charCodeAt(limit - 1)) ? limit - 1 : limit
  return `${value.slice(0, end)}... (truncated, ${value.length - end} more characters)`
}

const isHighSurrogate = (unit: number): boolean => (unit & 0xfc00) === 0xd800

/** Returns a value unchanged if its JSON is within the limit, otherwise its truncated JSON. */
export const field = (value: unknown, limit: number): unknown => {
  if (typeof value === "string") return text(value, limit)
  if (typeof value !== "object" || value === null) return value
  const json = Formatter.formatJson(value)
  return json.length <= limit ? value : text(json, limit)
}

/** Formats the line as JSON of at most {@link maxLine} bytes. The limits are halved until it fits. */
export const json = (line: Line): string => {
  for (let { cause, field } = limits; field >= 16; field = field >> 1, cause = cause >> 1) {
    const truncated = Formatter.formatJson(truncate(line, { cause, field }))
    if (Buffer.byteLength(truncated) < maxLine) return truncated
  }
  // too many annotations or messages
  const { level, timestamp } = line
  return Formatter.formatJson({
    message: text(Formatter.formatJson(line.message), 100),
    level,
    timestamp,
    annotations: { truncated: "the line had too many fields" }
  })
}

const truncate = (line: Line, { cause, field: limit }: Limits): Line => ({
  ...line,
  message: Array.isArray(line.message) ? line.message.map((part) => field(part, limit)) : field(line.message, limit),
  cause: line.cause === undefined ? undefined : text(line.cause, cause),
  annotations: Object.fromEntries(
    Object.entries(line.annotations).map(([key, value]) => [text(key, limit), field(value, limit)])
  )
})
