/**
 * Bounds what a log line holds, since parts of it were sent by callers: each field, its cause, and the line as a whole.
 */
import { Formatter } from "effect"

/** In characters (UTF-16 code units) of a field and a cause. */
export interface Limits {
  readonly field: number
  readonly cause: number
}

export const limits: Limits = { field: 1000, cause: 6000 }

/** The most bytes of a line, its line break included. */
export const maxLine = 8192

/** A line as `Logger.formatStructured` makes it. */
export interface Line {
  readonly message: unknown
  readonly level: string
  readonly timestamp: string
  readonly cause: string | undefined
  readonly annotations: Record<string, unknown>
  readonly spans: Record<string, number>
  readonly fiberId: string
}

/** The beginning of a text that is longer than a limit, and how much is missing. Never half a character. */
export const text = (value: string, limit: number): string => {
  if (value.length <= limit) return value
  const end = isHighSurrogate(value.charCodeAt(limit - 1)) ? limit - 1 : limit
  return `${value.slice(0, end)}... (clipped, ${value.length - end} more characters)`
}

const isHighSurrogate = (unit: number): boolean => (unit & 0xfc00) === 0xd800

/** A value of a field: as it is, or the beginning of its text. */
export const field = (value: unknown, limit: number): unknown => {
  if (typeof value === "string") return text(value, limit)
  if (typeof value !== "object" || value === null) return value
  const json = Formatter.formatJson(value)
  return json.length <= limit ? value : text(json, limit)
}

/** The line as JSON, of at most {@link maxLine} bytes: its longest parts are clipped until it fits. */
export const json = (line: Line): string => {
  for (let { cause, field } = limits; field >= 16; field = field >> 1, cause = cause >> 1) {
    const clipped = Formatter.formatJson(clip(line, { cause, field }))
    if (Buffer.byteLength(clipped) < maxLine) return clipped
  }
  // thousands of annotations or messages
  const { level, timestamp } = line
  return Formatter.formatJson({
    message: text(Formatter.formatJson(line.message), 100),
    level,
    timestamp,
    annotations: { clipped: "the line had too many fields" }
  })
}

const clip = (line: Line, { cause, field: limit }: Limits): Line => ({
  ...line,
  message: Array.isArray(line.message) ? line.message.map((part) => field(part, limit)) : field(line.message, limit),
  cause: line.cause === undefined ? undefined : text(line.cause, cause),
  annotations: Object.fromEntries(
    Object.entries(line.annotations).map(([key, value]) => [text(key, limit), field(value, limit)])
  )
})
