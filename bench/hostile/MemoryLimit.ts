/**
 * A memory limit for one process: a Linux control group, version 1 or 2, where this program may create one, as containers have.
 * Elsewhere the process is polled and killed when its resident memory exceeds the limit; this does not count socket buffers, and can
 * miss a short peak.
 */
import type { ChildProcess } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs"

import * as Processes from "../Processes.ts"

export interface MemoryLimit {
  /** A command that starts the process under the limit. */
  readonly launcher: ReadonlyArray<string>
  /** Node options for the heap limit, where Node cannot see the memory limit. */
  readonly nodeOptions: string
  /** Applies the limit to the started process. */
  readonly watch: (child: ChildProcess) => void
  /** The peak memory so far, in bytes. */
  readonly peak: () => number
  /** Whether the process was killed because of the limit. */
  readonly isExceeded: () => boolean
  /** Releases the limit after the process has exited. */
  readonly remove: () => void
}

export interface Limiter {
  /** The mechanism, for the report. */
  readonly description: string
  readonly limit: (name: string, bytes: number) => MemoryLimit
}

interface Files {
  readonly root: string
  readonly limit: string
  readonly peak: string
  /** The file that counts kills, as "oom_kill N". */
  readonly events: string
}

const version1: Files = {
  root: "/sys/fs/cgroup/memory",
  limit: "memory.limit_in_bytes",
  peak: "memory.max_usage_in_bytes",
  events: "memory.oom_control"
}

const version2: Files = {
  root: "/sys/fs/cgroup",
  limit: "memory.max",
  peak: "memory.peak",
  events: "memory.events"
}

const byGroup =
  ({ events, limit, peak, root }: Files) =>
  (name: string, bytes: number): MemoryLimit => {
    const folder = `${root}/online-books-${process.pid}-${name}`
    mkdirSync(folder)
    writeFileSync(`${folder}/${limit}`, String(bytes))
    // version 2 limits swap separately, version 1 may not limit it
    if (existsSync(`${folder}/memory.swap.max`)) writeFileSync(`${folder}/memory.swap.max`, "0")
    return {
      launcher: ["/bin/sh", "-c", `echo $$ > ${folder}/cgroup.procs && exec "$@"`, "sh"],
      nodeOptions: "",
      watch: () => {},
      peak: () => Number(readFileSync(`${folder}/${peak}`, "utf8")),
      isExceeded: () => Number(/^oom_kill (\d+)$/m.exec(readFileSync(`${folder}/${events}`, "utf8"))?.[1] ?? 0) > 0,
      remove: () => {
        try {
          rmdirSync(folder)
        } catch {
          // the kernel still has the process; an empty group left behind is harmless
        }
      }
    }
  }

/** Without a control group, `--max-old-space-size-percentage`, which the images use, refers to the machine's memory. */
const byWatching = (_: string, bytes: number): MemoryLimit => {
  let peak = 0
  let isExceeded = false
  let timer: NodeJS.Timeout | undefined
  return {
    launcher: [],
    nodeOptions: `--max-old-space-size=${Math.floor((bytes / 2 ** 20) * 0.65)}`,
    watch: (child) => {
      timer = setInterval(() => {
        if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
        const { now, peak: most } = Processes.memoryOf(child.pid)
        peak = Math.max(peak, most)
        if (now <= bytes) return
        isExceeded = true
        child.kill("SIGKILL")
      }, 20)
    },
    peak: () => peak,
    isExceeded: () => isExceeded,
    remove: () => clearInterval(timer)
  }
}

/** Whether a control group with a limit can be created in a folder. */
const canMake = (files: Files): boolean => {
  try {
    if (files === version2) writeFileSync(`${files.root}/cgroup.subtree_control`, "+memory")
    byGroup(files)("probe", 2 ** 30).remove()
    return true
  } catch {
    return false
  }
}

/** The best mechanism of this machine. */
export const find = (): Limiter => {
  if (canMake(version1)) return { description: "a cgroup (version 1)", limit: byGroup(version1) }
  if (canMake(version2)) return { description: "a cgroup (version 2)", limit: byGroup(version2) }
  return {
    description:
      "watching from outside, since no cgroup can be made here (as root, with /sys/fs/cgroup writable, it can): killed above the limit of resident memory",
    limit: byWatching
  }
}
