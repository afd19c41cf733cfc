/**
 * A row of the benchmark: a workload with its contestants and targets.
 */
import { writeFileSync } from "node:fs"
import { join } from "node:path"

import type * as Contestants from "./Contestants.ts"
import type * as Rounds from "./Rounds.ts"

/** The measured figures. */
export type Column = "cpu" | "throughput" | "median" | "p99" | "memory" | "start" | "loop"

/** The figures of a contestant; those that were not measured are missing. */
export type Line = { readonly name: string } & { readonly [K in Column]?: Rounds.Figure }

/** A goal for the ratio of our figure and that of another line of the row. */
export interface Target {
  readonly against: string
  readonly column: Column
  /** The lowest ratio of the other figure to ours; of a throughput, that of ours to the other. */
  readonly atLeast?: number
  /** The highest ratio of our figure to the other. */
  readonly atMost?: number
  /** The name of a fact that the goal is for instead of a ratio, in the unit of the fact. */
  readonly fact?: string
}

export interface Result {
  /** Ours first. */
  readonly lines: ReadonlyArray<Line>
  /** Further measurements; the name of each says its unit. */
  readonly facts?: { readonly [name: string]: number }
}

export interface Row {
  readonly key: string
  readonly title: string
  readonly targets: ReadonlyArray<Target>
  readonly run: (setting: Setting) => Promise<Result>
}

/** How rows are run. */
export interface Setting {
  /** A temporary folder. */
  readonly folder: string
  readonly collector: string
  /** A factor for the number of rounds. */
  readonly effort: number
  /** The number of processes of each contestant. */
  readonly processes: number
  /** Parts of the names of the contestants to run; empty runs all. */
  readonly names: ReadonlyArray<string>
}

/** Writes a file into the temporary folder, and returns its path. */
export const write = ({ folder }: Pick<Setting, "folder">, name: string, content: string | Uint8Array): string => {
  const file = join(folder, name)
  writeFileSync(file, content)
  return file
}

/** The contestants to run: those that are asked for, and are not missing on this machine. */
export const wanted = (
  { names }: Setting,
  contestants: ReadonlyArray<Contestants.Contestant>
): ReadonlyArray<Contestants.Contestant> =>
  contestants.filter(({ missing, name }) => {
    if (names.length > 0 && !names.some((part) => name.includes(part))) return false
    const packages = missing?.()
    if (packages !== undefined) console.error(`${name} is left out; to include it: ${packages}`)
    return packages === undefined
  })
