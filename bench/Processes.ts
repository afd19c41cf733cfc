/**
 * The processes of a benchmark: each kept on one core, its CPU time and its memory read from the kernel, and ended with the program.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { availableParallelism } from "node:os"

/** What is measured runs on one core, all that makes the load on another, with this program. */
export const measuredCore = 0
export const otherCore = 1

/** Whether processes can be kept on a core: with util-linux' taskset, and more than one of them. */
export const isPinned = availableParallelism() > 1 && spawnSync("taskset", ["--version"]).error === undefined

/** A command as it is run on a core. */
export const on = (core: number, command: string, ...args: ReadonlyArray<string>): [string, ReadonlyArray<string>] =>
  isPinned ? ["taskset", ["-c", String(core), command, ...args]] : [command, args]

const running: Array<ChildProcess> = []

/** How many processes there are, to be given to {@link stop} later. */
export const count = (): number => running.length

/** Ends processes, or all but the first ones. */
export const stop = (first = 0): void => {
  for (const child of running.splice(first)) {
    child.removeAllListeners("exit")
    child.kill("SIGKILL")
  }
}

/** The same, and waits until they have ended. */
export const stopAll = async (first = 0): Promise<void> => {
  const ending = running
    .slice(first)
    .filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)
    .map((child) => new Promise((resolve) => child.once("close", resolve)))
  stop(first)
  await Promise.all(ending)
}

// whatever ends this program ends them
process.on("exit", () => stop())
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1))

export interface Options {
  readonly core: number
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** What it says besides its output is dropped. */
  readonly isQuiet?: boolean
  /** A command that runs the command, such as one that limits its memory. */
  readonly launcher?: ReadonlyArray<string> | undefined
  /** Whether it may end before it is stopped, which otherwise ends the benchmark. */
  readonly mayEnd?: boolean | undefined
}

/** Starts a process, without the settings of this one. If it ends before it is stopped, so does the benchmark. */
export const start = (options: Options): ChildProcess => {
  const { args, command, core, cwd, env, isQuiet = false, launcher = [], mayEnd = false } = options
  const [first = command, ...rest] = [...launcher, command, ...args]
  const [program, all] = on(core, first, ...rest)
  const child = spawn(program, all, {
    cwd,
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", isQuiet ? "ignore" : "inherit", "ipc"]
  })
  running.push(child)
  if (mayEnd) return child
  child.on("exit", (code) => {
    console.error(`${command} ${args.join(" ")} has ended with ${code}`)
    process.exit(1)
  })
  return child
}

/** What a pattern finds in the output of a process, the rest of which is read and dropped. */
export const find = (child: ChildProcess, pattern: RegExp): Promise<string> =>
  new Promise((resolve) => {
    let output = ""
    const onData = (bytes: Buffer) => {
      output += bytes.toString()
      const [, found] = pattern.exec(output) ?? []
      if (found === undefined) return
      child.stdout?.off("data", onData)
      child.stdout?.resume()
      resolve(found)
    }
    child.stdout?.on("data", onData)
  })

/** A process and those that it has started, and so on. */
const treeOf = (pid: number): ReadonlyArray<number> => [
  pid,
  ...tasksOf(pid)
    .flatMap((task) => read(`/proc/${pid}/task/${task}/children`).split(" "))
    .flatMap((child) => (child === "" ? [] : treeOf(Number(child))))
]

const tasksOf = (pid: number): ReadonlyArray<string> => readdirSync(`/proc/${pid}/task`)

/** A file of a thread, which may have ended since. */
const read = (file: string): string => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return ""
  }
}

/**
 * The CPU time of a process and of those that it has started, in microseconds. That of its threads is known to the nanosecond; its
 * stat, in hundredths of a second, has that of threads that have ended too.
 */
export const cpuOf = (pid: number): number =>
  treeOf(pid)
    .map((one) => Math.max(ofThreads(one), ofStat(one)))
    .reduce((sum, micros) => sum + micros, 0)

const ofThreads = (pid: number): number =>
  tasksOf(pid)
    .map((task) => Number(read(`/proc/${pid}/task/${task}/schedstat`).split(" ")[0]) / 1000)
    .reduce((sum, micros) => sum + micros, 0)

/** What is said before the name of the program, which may hold anything, is not read; after it come the state and 11 more. */
const ofStat = (pid: number): number => {
  const [user = "0", system = "0"] = read(`/proc/${pid}/stat`).split(") ")[1]?.split(" ").slice(11, 13) ?? []
  return (Number(user) + Number(system)) * 10_000
}

/** The resident memory of a process and of those that it has started, in bytes: what it is now, and the most that it was. */
export const memoryOf = (pid: number): { readonly now: number; readonly peak: number } => {
  const statuses = treeOf(pid).map((one) => readFileSync(`/proc/${one}/status`, "utf8"))
  const sum = (name: string) =>
    statuses
      .map((status) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1] ?? 0) * 1024)
      .reduce((sum, bytes) => sum + bytes, 0)
  return { now: sum("VmRSS"), peak: sum("VmHWM") }
}
