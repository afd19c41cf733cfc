/**
 * Fails if a call costs more than it did: `npm run bench:guard`. It measures the row `three` of {@link file://./Rows.ts}.
 *
 * - The bytes that a call allocates hardly differ between machines and runs, so their limit is tight.
 * - The CPU time of a call is compared with that of a server of grpc-js by hand, in the same run. Other work on the machine can only
 *   add to it, so the minimum over many short rounds of several processes counts. If the ratio is too low, more processes are
 *   measured before the guard fails.
 */
import { spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

import * as Catalogues from "./Catalogues.ts"
import * as Contestants from "./Contestants.ts"
import type { Inspected, Question } from "./inspected.ts"
import * as Load from "./Load.ts"
import * as Processes from "./Processes.ts"
import { recommend, recommendPath } from "./Requests.ts"

/** The most bytes that a call may allocate on the heap. Lower this when a call allocates less. */
const maxAllocated = 25_300

/** The lowest allowed ratio of the CPU time of a call by hand to ours. */
const minRatio = 0.78

/** The least and the most processes of each. */
const minAttempts = 2
const maxAttempts = 8

const rounds = 10
const warmUps = 4
const calls = 10_000

interface Subject {
  readonly look: () => Promise<Inspected>
  readonly cpu: () => number
  readonly load: () => Promise<Load.Outcome>
}

const main = async () => {
  const missing = Load.missing().filter((program) => program.startsWith("h2load"))
  if (missing.length > 0) throw new Error(`Missing load generators: ${missing.join(", ")}`)
  if (Processes.isPinned) spawnSync("taskset", ["-cp", String(Processes.otherCore), String(process.pid)])
  await Contestants.prepare()
  const folder = mkdtempSync(join(tmpdir(), "guard-"))
  process.on("exit", () => rmSync(folder, { recursive: true }))
  const { bookSize, text } = Catalogues.shipped()
  const catalogue = join(folder, "books.csv")
  const file = join(folder, "request")
  writeFileSync(catalogue, text)
  writeFileSync(file, recommend(3))
  const sink = Processes.start({
    core: Processes.otherCore,
    command: process.execPath,
    args: [join(import.meta.dirname, "otlpSink.ts")]
  })
  const [collector] = (await once(sink, "message")) as [number]
  const others = Processes.count()

  const start = async (contestant: Contestants.Contestant): Promise<Subject> => {
    const port = await Contestants.freePort()
    const child = contestant.start({
      core: Processes.measuredCore,
      port,
      catalogue,
      collector: `http://127.0.0.1:${collector}`,
      nodeOptions: `--import=${join(import.meta.dirname, "inspected.ts")}`
    })
    const socket = await Contestants.connected(port)
    socket.destroy()
    const load = () =>
      Load.grpc({
        port,
        path: recommendPath,
        file,
        log: join(folder, "calls"),
        connections: 4,
        streams: 16,
        calls,
        answerSize: 5 + 3 * bookSize
      })
    const look = async () => {
      child.send({} satisfies Question)
      const [looked] = (await once(child, "message")) as [Inspected]
      return looked
    }
    return { load, look, cpu: () => Processes.cpuOf(child.pid!) }
  }

  const least = { ours: Infinity, byHand: Infinity, allocated: Infinity }
  const isGood = () => least.byHand / least.ours >= minRatio && least.allocated <= maxAllocated
  for (let attempt = 0; attempt < maxAttempts && !(attempt >= minAttempts && isGood()); attempt++) {
    const ours = await start(Contestants.ours)
    const byHand = await start(Contestants.byHand)
    for (const { load } of [ours, byHand]) for (let warmUp = 0; warmUp < warmUps; warmUp++) await load()
    const measure = async ({ cpu, load }: Subject) => {
      const before = cpu()
      await load()
      return (cpu() - before) / calls
    }
    for (let round = 0; round < rounds; round++) {
      const { allocated } = await ours.look()
      least.ours = Math.min(least.ours, await measure(ours))
      least.allocated = Math.min(least.allocated, ((await ours.look()).allocated - allocated) / calls)
      least.byHand = Math.min(least.byHand, await measure(byHand))
    }
    Processes.stop(others)
    console.log(
      `${least.ours.toFixed(1)} us of CPU a call, by hand ${least.byHand.toFixed(1)}: ${(least.byHand / least.ours).toFixed(3)}, ` +
        `at least ${minRatio}; ${Math.round(least.allocated)} bytes a call, at most ${maxAllocated}`
    )
  }
  if (isGood()) return
  console.error("A call costs more than it did; `npm run profile` shows where (bench/README.md)")
  process.exitCode = 1
}

await main()
process.exit()
