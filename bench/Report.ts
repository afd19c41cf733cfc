/**
 * Formats the result of a row: a table line for each contestant, and whether the targets are reached.
 */
import type { Column, Line, Result, Row, Target } from "./Row.ts"

/** The heading of each column, the divisor for its unit, and its decimals. */
const columns: { readonly [K in Column]: { readonly head: string; readonly unit: number; readonly decimals: number } } =
  {
    cpu: { head: "us of CPU", unit: 1, decimals: 1 },
    throughput: { head: "a second", unit: 1, decimals: 0 },
    median: { head: "median us", unit: 1, decimals: 0 },
    p99: { head: "p99 us", unit: 1, decimals: 0 },
    memory: { head: "peak MiB", unit: 1024 * 1024, decimals: 0 },
    start: { head: "ms", unit: 1, decimals: 0 },
    loop: { head: "loop p99 ms", unit: 1, decimals: 1 }
  }

const names = Object.keys(columns) as ReadonlyArray<Column>

/** The best figure of another line divided by the best of ours. */
const ratioTo = (ours: Line, other: Line, column: Column): number | undefined => {
  const [own, theirs] = [ours[column]?.best, other[column]?.best]
  return own === undefined || theirs === undefined ? undefined : theirs / own
}

export interface Verdict {
  readonly what: string
  readonly value: number
  readonly wanted: string
  readonly isReached: boolean
}

const judge = ({ facts, lines }: Result, target: Target): Verdict | undefined => {
  const { against, atLeast, atMost, column, fact } = target
  const [ours] = lines
  if (ours === undefined) return undefined
  if (fact !== undefined && atMost !== undefined) {
    const value = facts?.[fact] ?? Number.NaN
    return { what: fact, value, wanted: `at most ${atMost}`, isReached: value <= atMost }
  }
  const other = lines.find(({ name }) => name === against)
  const ratio = other === undefined ? undefined : ratioTo(ours, other, column)
  if (ratio === undefined) return undefined
  const head = columns[column].head
  if (atLeast !== undefined && column === "throughput") {
    const value = 1 / ratio
    return { what: `${head}, ours to ${against}`, value, wanted: `at least ${atLeast}`, isReached: value >= atLeast }
  }
  if (atMost !== undefined) {
    const value = 1 / ratio
    return { what: `${head}, ours to ${against}`, value, wanted: `at most ${atMost}`, isReached: value <= atMost }
  }
  return {
    what: `${head}, ${against} to ours`,
    value: ratio,
    wanted: `at least ${atLeast}`,
    isReached: ratio >= atLeast!
  }
}

export const verdicts = (row: Row, result: Result): ReadonlyArray<Verdict> =>
  row.targets.flatMap((target) => judge(result, target) ?? [])

/** A Markdown table: of each figure the best round, the median round in brackets, and the ratio to ours. */
export const format = (row: Row, result: Result): string => {
  const [ours] = result.lines
  const used = names.filter((name) => result.lines.some((line) => line[name] !== undefined))
  const cells = result.lines.map((line) => [
    line.name,
    ...used.flatMap((name) => {
      const { decimals, unit } = columns[name]
      const figure = line[name]
      if (figure === undefined || ours === undefined) return ["", ""]
      const [best, middle] = [figure.best, figure.middle].map((value) => (value / unit).toFixed(decimals))
      return [`${best} (${middle})`, (ratioTo(ours, line, name) ?? Number.NaN).toFixed(2)]
    })
  ])
  const head = ["", ...used.flatMap((name) => [columns[name].head, "x"])]
  const table = [head, ...cells]
  const widths = head.map((_, at) => Math.max(...table.map((line) => line[at]!.length)))
  const pad = (line: ReadonlyArray<string>) =>
    `| ${line.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!))).join(" | ")} |`
  return [
    `### ${row.title}`,
    "",
    pad(head),
    pad(widths.map((width, at) => (at === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`))),
    ...cells.map(pad),
    "",
    ...verdicts(row, result).map(
      ({ isReached, value, wanted, what }) =>
        `- ${what}: ${value.toFixed(2)}, ${wanted}: ${isReached ? "reached" : "**missed**"}`
    )
  ].join("\n")
}
