/**
 * Compares servers that run at the same time and are loaded in turn, in many short rounds.
 *
 * Other work on the machine can only add to the cost of a request, so the minimum over the rounds counts; the median beside it shows
 * how busy the machine was. JIT compilation and heap size differ between processes, so several processes of each server are measured,
 * one after the other.
 */
import type { ChildProcess } from "node:child_process"

import type { Outcome } from "./Load.ts"
import * as Processes from "./Processes.ts"

/** A running server. */
export interface Subject {
  readonly name: string
  readonly process: ChildProcess
  /** Loads it for less than a second, and checks its answers. */
  readonly load: () => Promise<Outcome>
}

/** A figure over all rounds or processes. */
export interface Figure {
  /** The minimum or the maximum, whichever is better. */
  readonly best: number
  /** The median. */
  readonly middle: number
}

export interface Figures {
  readonly name: string
  /** CPU time of the server's processes for a request, in microseconds. */
  readonly cpu: Figure
  /** Requests a second. */
  readonly throughput: Figure
  /** Latency percentiles, in microseconds. */
  readonly median: Figure
  readonly p99: Figure
  /** Peak resident memory, in bytes. */
  readonly memory: Figure
}

export interface Options {
  /** Processes of each server, one after the other. */
  readonly processes: number
  /** Measured rounds of each process. */
  readonly rounds: number
  /** Rounds that are not counted, until the JIT compiler has settled. */
  readonly warmUps: number
}

interface Round extends Outcome {
  readonly cpu: number
}

const measure = async ({ load, process }: Subject): Promise<Round> => {
  const before = Processes.cpuOf(process.pid!)
  const outcome = await load()
  return { ...outcome, cpu: (Processes.cpuOf(process.pid!) - before) / outcome.requests }
}

const figure = (values: ReadonlyArray<number>, best: (...values: ReadonlyArray<number>) => number): Figure => ({
  best: best(...values),
  middle: values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
})

/** Starts one process of each name, measures them, and repeats that with new processes. */
export const compare = async (
  names: ReadonlyArray<string>,
  start: (name: string) => Promise<Subject>,
  { processes, rounds, warmUps }: Options
): Promise<ReadonlyArray<Figures>> => {
  const seen = names.map(() => ({ rounds: [] as Array<Round>, memory: [] as Array<number> }))
  const others = Processes.count()
  for (let i = 0; i < processes; i++) {
    const subjects: Array<Subject> = []
    for (const name of names) subjects.push(await start(name))
    for (const { load } of subjects) for (let warmUp = 0; warmUp < warmUps; warmUp++) await load()
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < subjects.length; turn++) {
        // each round begins with another server
        const at = (round + turn) % subjects.length
        seen[at]!.rounds.push(await measure(subjects[at]!))
      }
    }
    subjects.forEach(({ process }, at) => seen[at]!.memory.push(Processes.memoryOf(process.pid!).peak))
    Processes.stop(others)
  }
  return names.map((name, at) => {
    const { memory, rounds } = seen[at]!
    const least = (of: (round: Round) => number) => figure(rounds.map(of), Math.min)
    return {
      name,
      cpu: least(({ cpu }) => cpu),
      throughput: figure(
        rounds.map(({ requests, seconds }) => requests / seconds),
        Math.max
      ),
      median: least(({ median }) => median),
      p99: least(({ p99 }) => p99),
      memory: figure(memory, Math.min)
    }
  })
}
