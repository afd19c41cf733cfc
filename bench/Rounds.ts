/**
 * Servers that are compared: all of them at the same time, each loaded in turn, in many short rounds.
 *
 * Other work on the machine only ever adds to what a request takes, so the least of the rounds counts, and the middle one beside it
 * says how much there was. What is compiled how, and how large a heap becomes, differs from process to process: so there are several
 * of each, one after another.
 */
import type { ChildProcess } from "node:child_process"

import type { Outcome } from "./Load.ts"
import * as Processes from "./Processes.ts"

/** A server, running. */
export interface Subject {
  readonly name: string
  readonly process: ChildProcess
  /** Loads it for less than a second, and sees that it answers as it should. */
  readonly load: () => Promise<Outcome>
}

/** A number of which the least counts, or the most. */
export interface Figure {
  readonly best: number
  /** The middle of all rounds, or processes. */
  readonly middle: number
}

export interface Figures {
  readonly name: string
  /** Microseconds of the CPU of the server's processes a request. */
  readonly cpu: Figure
  /** Requests a second. */
  readonly throughput: Figure
  /** What half of the requests took at the most, in microseconds, and what 99 of 100 did. */
  readonly median: Figure
  readonly p99: Figure
  /** The most resident memory, in bytes. */
  readonly memory: Figure
}

export interface Options {
  /** How many processes of each, one after another. */
  readonly processes: number
  /** Of each process. */
  readonly rounds: number
  /** Rounds that do not count, until the compiler has nothing more to gain. */
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

/** Loads what is started, and again what is started next. */
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
        // each round begins with another one
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
