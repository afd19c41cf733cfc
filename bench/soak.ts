/**
 * Recommendations for a while at half of what it can do: `npm run bench:soak` prints how large its objects are after a full collection,
 * and how long its calls take, and fails if either goes up by more than its own noise, if Node warns of listeners, or if a call is
 * not answered with OK.
 *
 * `-- --minutes 10` and `--window 15` (in seconds, after each of which it is looked at) may be given.
 */
import { spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"

import * as Catalogues from "./Catalogues.ts"
import * as Contestants from "./Contestants.ts"
import * as HeapSnapshot from "./HeapSnapshot.ts"
import type { Inspected, Question } from "./inspected.ts"
import * as Load from "./Load.ts"
import * as Processes from "./Processes.ts"
import { recommend, recommendPath } from "./Requests.ts"
import * as Slope from "./Slope.ts"

/** Windows that do not count: what is compiled, and what caches there are, comes in them. */
const warmUps = 4

/** What is no more than this part of what there was is not looked at: other work on the machine comes and goes with the latencies. */
const tolerated = { objects: 0.01, p99: 0.1 }

const main = async () => {
  const { values } = parseArgs({
    options: { minutes: { type: "string", default: "10" }, window: { type: "string", default: "15" } }
  })
  const missing = Load.missing()
  if (missing.length > 0) throw new Error(`What makes the load is not there: ${missing.join(", ")}`)
  const folder = mkdtempSync(join(tmpdir(), "soak-"))
  process.on("exit", () => rmSync(folder, { recursive: true }))
  const { bookSize, text } = Catalogues.shipped()
  const catalogue = join(folder, "books.csv")
  const file = join(folder, "request")
  const snapshot = join(folder, "heap")
  writeFileSync(catalogue, text)
  writeFileSync(file, recommend(3))
  if (Processes.isPinned) spawnSync("taskset", ["-cp", String(Processes.otherCore), String(process.pid)])
  const sink = Processes.start({
    core: Processes.otherCore,
    command: process.execPath,
    args: [join(import.meta.dirname, "otlpSink.ts")]
  })
  const [collector] = (await once(sink, "message")) as [number]
  const port = await Contestants.freePort()
  const server = Contestants.ours.start({
    core: Processes.measuredCore,
    port,
    catalogue,
    collector: `http://127.0.0.1:${collector}`,
    nodeOptions: `--import=${join(import.meta.dirname, "inspected.ts")}`
  })
  const socket = await Contestants.connected(port)
  socket.destroy()
  const load = {
    port,
    path: recommendPath,
    file,
    log: join(folder, "calls"),
    connections: 4,
    streams: 16,
    answerSize: 5 + 3 * bookSize
  }
  await Load.grpc({ ...load, calls: 50_000 })
  const { requests, seconds } = await Load.grpc({ ...load, calls: 50_000 })
  const rate = Math.floor(requests / seconds / 2 / load.connections) * load.connections
  const calls = rate * Number(values.window)
  console.log(`${rate} calls a second, half of what is answered\n`)
  console.log("   calls   objects MiB   RSS MiB   median ms   p99 ms")

  const heaps: Array<number> = []
  const p99s: Array<number> = []
  const wrong: Array<string> = []
  const windows = Math.ceil((Number(values.minutes) * 60) / Number(values.window))
  for (let at = 0; at < windows + warmUps; at++) {
    const { median, p99 } = await Load.grpc({ ...load, calls, rate })
    server.send({ writeHeapTo: snapshot } satisfies Question)
    const [{ warnings }] = (await once(server, "message")) as [Inspected]
    const heap = HeapSnapshot.objectBytes(readFileSync(snapshot, "utf8"))
    const mib = [heap, Processes.memoryOf(server.pid!).now].map((bytes) => (bytes / 2 ** 20).toFixed(3).padStart(9))
    console.log(
      `${String(calls).padStart(8)}  ${mib.join(" ")}   ${(median / 1000).toFixed(2).padStart(9)}   ${(p99 / 1000).toFixed(2).padStart(6)}`
    )
    wrong.push(...warnings)
    if (at < warmUps) continue
    heaps.push(heap)
    p99s.push(p99)
  }
  const flat = (what: string, all: ReadonlyArray<number>, unit: number, tolerated: number) => {
    const { noise, rise } = Slope.of(all)
    const isFlat = rise <= Math.max(noise, tolerated * all[0]!)
    console.log(`\n${what}: ${(rise / unit).toFixed(3)} more at the end, by chance up to ${(noise / unit).toFixed(3)}`)
    if (!isFlat) wrong.push(`${what} goes up`)
  }
  flat("MiB of objects", heaps, 2 ** 20, tolerated.objects)
  flat("ms of the 99th of 100 calls", p99s, 1000, tolerated.p99)
  console.log(wrong.length === 0 ? "\nNothing went wrong." : `\n${[...new Set(wrong)].join("\n")}`)
  process.exitCode = wrong.length === 0 ? 0 : 1
}

await main()
process.exit()
