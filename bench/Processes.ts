/**
 * The processes of a benchmark: pins them to cores, reads their CPU time and memory from /proc, and ends them with the program.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { availableParallelism } from "node:os"

/** The measured server runs on one core; the load generators and this program run on the other. */
export const measuredCore = 0
export const otherCore = 1

/** Whether processes can be pinned to cores: this takes taskset (util-linux) and two cores. */
export const isPinned = availableParallelism() > 1 && spawnSync("taskset", ["--version"]).error === undefined

/** The command that runs a command on a core. */
export const on = (core: number, command: string, ...args: ReadonlyArray<string>): [string, ReadonlyArray<string>] =>
  isPinned ? ["taskset", ["-c", String(core), command, ...args]] : [command, args]

const running: Array<ChildProcess> = []

/** The number of running processes, for {@link stop}. */
export const count = (): number => running.length

/** Kills all processes but the first ones. */
export const stop = (first = 0): void => {
  for (const child of running.splice(first)) {
    child.removeAllListeners("exit")
    child.kill("SIGKILL")
  }
}

/** As {@link stop}, and waits until they have exited. */
export const stopAll = async (first = 0): Promise<void> => {
  const ending = running
    .slice(first)
    .filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)
    .map((child) => new Promise((resolve) => child.once("close", resolve)))
  stop(first)
  await Promise.all(ending)
}

// processes end with this program
process.on("exit", () => stop())
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1))

export interface Options {
  readonly core: number
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Drops stderr. */
  readonly isQuiet?: boolean
  /** A prefix command, such as one that limits memory. */
  readonly launcher?: ReadonlyArray<string> | undefined
  /** Whether it may exit before it is stopped; otherwise this ends the benchmark. */
  readonly mayEnd?: boolean | undefined
}

/** Starts a process without the environment of this one. The benchmark ends if the process exits before it is stopped. */
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
    console.error(`${command} ${args.join(" ")} exited with code ${code}`)
    process.exit(1)
  })
  return child
}

/** The first group of a pattern in the output of a process; further output is dropped. */
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

/** The pids of a process and its descendants. */
const treeOf = (pid: number): ReadonlyArray<number> => [
  pid,
  ...tasksOf(pid)
    .flatMap((task) => read(`/proc/${pid}/task/${task}/children`).split(" "))
    .flatMap((child) => (child === "" ? [] : treeOf(Number(child))))
]

const tasksOf = (pid: number): ReadonlyArray<string> => readdirSync(`/proc/${pid}/task`)

/** Reads a file of /proc; empty if the thread has ended. */
const read = (file: string): string => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return ""
  }
}

/**
 * The CPU time of a process and its descendants, in microseconds. The schedstat of threads is exact; the stat of the process has
 * hundredths of a second, but includes threads that have ended.
 */
export const cpuOf = (pid: number): number =>
  treeOf(pid)
    .map((one) => Math.max(ofThreads(one), ofStat(one)))
    .reduce((sum, micros) => sum + micros, 0)

const ofThreads = (pid: number): number =>
  tasksOf(pid)
    .map((task) => Number(read(`/proc/${pid}/task/${task}/schedstat`).split(" ")[0]) / 1000)
    .reduce((sum, micros) => sum + micros, 0)

/** The fields utime and stime, counted from the end of the program's name, which can hold any character. */
const ofStat = (pid: number): number => {
  const [user = "0", system = "0"] = read(`/proc/${pid}/stat`).split(") ")[1]?.split(" ").slice(11, 13) ?? []
  return (Number(user) + Number(system)) * 10_000
}

/** The current and the peak resident memory of a process and its descendants, in bytes. */
export const memoryOf = (pid: number): { readonly now: number; readonly peak: number } => {
  const statuses = treeOf(pid).map((one) => readFileSync(`/proc/${one}/status`, "utf8"))
  const sum = (name: string) =>
    statuses
      .map((status) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1] ?? 0) * 1024)
      .reduce((sum, bytes) => sum + bytes, 0)
  return { now: sum("VmRSS"), peak: sum("VmHWM") }
}
