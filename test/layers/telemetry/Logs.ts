/**
 * Records log lines in tests.
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

/** Recorded log lines. */
export interface Recorder {
  /** Logs to this recorder. */
  readonly layer: Layer.Layer<never>
  /** All output. */
  readonly text: () => string
  /** The output parsed as JSON lines. */
  readonly lines: () => ReadonlyArray<Line>
  /** The lines of the access log: those with a duration. */
  readonly access: () => ReadonlyArray<Line>
  /** The number of suppressed lines, from the lines that report them. */
  readonly omitted: (what: string) => number
  /** Clears the output. */
  readonly clear: () => void
}

/** Makes a recorder, at level Debug and in JSON by default. */
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
