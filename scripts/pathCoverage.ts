/**
 * Loaded by path.ts into a process before everything else: counts the functions of `src/` that the process calls. It answers the
 * message `take` with those that were called since the last one; the first one pauses timers that repeat.
 */
import { readFileSync } from "node:fs"
import { type Profiler, Session } from "node:inspector/promises"
import { fileURLToPath } from "node:url"

/** A function that was called. */
export interface Called {
  /** Relative to the project's root. */
  readonly file: string
  readonly line: number
  readonly column: number
  /** As V8 has it: empty for an anonymous function. */
  readonly name: string
}

const root = new URL("..", import.meta.url).href

const calledOf = ({ functions, url }: Profiler.ScriptCoverage): ReadonlyArray<Called> => {
  const called = functions.filter(({ ranges: [range] }) => range !== undefined && range.count > 0)
  if (called.length === 0) return []
  // Node replaces types by spaces, so V8's offsets are those of the file
  const text = readFileSync(fileURLToPath(url), "utf8")
  return called.map(({ functionName, ranges: [range] }) => {
    const lines = text.slice(0, range?.startOffset).split("\n")
    return {
      file: url.slice(root.length),
      line: lines.length,
      column: (lines.at(-1)?.length ?? 0) + 1,
      name: functionName
    }
  })
}

const session = new Session()
session.connect()
await session.post("Profiler.enable")
await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false })

/** Timers that repeat are paused while requests are counted: they belong to no request. */
let isCounting = false
const { setInterval } = globalThis
const pausable = (callback: () => void, period: number) =>
  setInterval(() => {
    if (!isCounting) callback()
  }, period)
globalThis.setInterval = pausable as typeof setInterval

process.on("message", async (message) => {
  if (message !== "take") return
  isCounting = true
  const { result } = await session.post("Profiler.takePreciseCoverage")
  process.send?.(result.filter(({ url }) => url.startsWith(`${root}src/`)).flatMap(calledOf))
})
process.channel?.unref()
