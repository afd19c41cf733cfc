/**
 * Shows the progress of an import: a bar on a terminal, and a log line now and then elsewhere.
 */
import { Clock, Console, Effect, Stdio, Terminal } from "effect"

import type { Position } from "./RatingsFile.ts"

/** Between two log lines, and between two changes of the bar, in milliseconds. */
const logInterval = 5000
const barInterval = 100

const barWidth = 24

export interface ImportProgress {
  /** Shows how many rows have been processed. */
  readonly update: (rows: number, position: Position) => Effect.Effect<void>
  /** Prints lines on stderr. */
  readonly print: (lines: ReadonlyArray<string>) => Effect.Effect<void>
  /** Removes the bar. */
  readonly clear: Effect.Effect<void>
}

/** `title` says what is done, such as "Importing ratings". */
export const make = Effect.fnUntraced(function* (title: string) {
  const terminal = yield* Terminal.Terminal
  const isTerminal = yield* (yield* Stdio.Stdio).stdoutIsTerminal
  const startedAt = yield* Clock.currentTimeMillis
  let shownAt = startedAt
  let isShown = false

  const display = (text: string) => Effect.ignore(terminal.display(`\r\u001b[K${text}`))
  const clear = Effect.suspend(() => {
    if (!isShown) return Effect.void
    isShown = false
    return display("")
  })
  const show = (rows: number, done: number, elapsed: number) => {
    const [rowsPerSecond, secondsLeft] = [
      Math.round((rows / elapsed) * 1000),
      Math.ceil((elapsed * (1 / done - 1)) / 1000)
    ]
    const percent = Math.floor(done * 100)
    if (!isTerminal) {
      return Effect.annotateLogs(Effect.logInfo(title), { rows, percent, rowsPerSecond, secondsLeft })
    }
    isShown = true
    const bar = "#".repeat(Math.round(done * barWidth)).padEnd(barWidth)
    return display(`${title} [${bar}] ${percent} %, ${rows} rows, ${rowsPerSecond}/s, ${secondsLeft} s left`)
  }

  const progress: ImportProgress = {
    update: (rows, { bytes, size }) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        if (now - shownAt < (isTerminal ? barInterval : logInterval)) return Effect.void
        shownAt = now
        return show(rows, bytes / size, now - startedAt)
      }),
    print: (lines) =>
      lines.length === 0
        ? Effect.void
        : Effect.andThen(
            clear,
            Effect.forEach(lines, (line) => Console.error(line), { discard: true })
          ),
    clear
  }
  return progress
})
