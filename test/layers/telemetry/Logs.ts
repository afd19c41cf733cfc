/**
 * What is logged, as it is written, kept for a test to look at.
 */
import { Console as NodeConsole } from "node:console"
import { Writable } from "node:stream"

import { Console, Layer } from "effect"

import * as Logging from "../../../src/layers/telemetry/Logging.ts"

/** A line of JSON. */
export interface Line {
  readonly level: string
  readonly message: unknown
  readonly timestamp: string
  readonly cause?: string
  readonly annotations: { readonly [key: string]: unknown }
}

export interface Recorder {
  /** Logs to here. */
  readonly layer: Layer.Layer<never>
  /** All that has been written. */
  readonly text: () => string
  /** The same, of which each line has to be JSON. */
  readonly lines: () => ReadonlyArray<Line>
  /** The lines that say how calls or requests have ended. */
  readonly access: () => ReadonlyArray<Line>
  /** How many lines were left out, by the lines that count those. */
  readonly omitted: (what: string) => number
  /** Forgets what has been written. */
  readonly clear: () => void
}

/** A log at Debug, as JSON, unless the settings say otherwise. */
export const recorder = (settings: Partial<Logging.Settings> = {}): Recorder => {
  let text = ""
  const stdout = new Writable({
    write: (chunk, _encoding, callback) => {
      text += String(chunk)
      callback()
    }
  })
  const lines = () =>
    text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Line)
  return {
    layer: Logging.layer({ level: "Debug", format: "json", ...settings }).pipe(
      Layer.provideMerge(Layer.succeed(Console.Console, new NodeConsole({ stdout })))
    ),
    text: () => text,
    lines,
    access: () => lines().filter(({ annotations }) => "durationMs" in annotations),
    omitted: (what) =>
      lines().reduce((sum, { message }) => {
        const [, count = "0"] =
          new RegExp(`^(\\d+) log lines suppressed in the last second: ${what}$`).exec(String(message)) ?? []
        return sum + Number(count)
      }, 0),
    clear: () => {
      text = ""
    }
  }
}
