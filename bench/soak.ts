/**
 * Runs Recommendations at half its capacity: `npm run bench:soak` prints the bytes of its objects after a full garbage collection and
 * the latency of its calls. It fails if either rises by more than noise, if Node warns of too many listeners, or if a call fails.
 *
 * Options: `-- --minutes 10`, and `--window 15` for the seconds between measurements.
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

/** Windows that are not counted, while the JIT compiler works and caches fill. */
const warmUps = 4

/** The relative rise that is tolerated, since other work on the machine changes latencies. */
const tolerated = { objects: 0.01, p99: 0.1 }

const main = async () => {
  const { values } = parseArgs({
    options: { minutes: { type: "string", default: "10" }, window: { type: "string", default: "15" } }
  })
  const missing = Load.missing()
  if (missing.length > 0) throw new Error(`Missing load generators: ${missing.join(", ")}`)
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
  console.log(`${rate} calls a second, half of the capacity\n`)
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
    console.log(`\n${what}: rise of ${(rise / unit).toFixed(3)}, noise up to ${(noise / unit).toFixed(3)}`)
    if (!isFlat) wrong.push(`Rise of ${what}`)
  }
  flat("MiB of objects", heaps, 2 ** 20, tolerated.objects)
  flat("p99 in ms", p99s, 1000, tolerated.p99)
  console.log(wrong.length === 0 ? "\nPASS" : `\n${[...new Set(wrong)].join("\n")}`)
  process.exitCode = wrong.length === 0 ? 0 : 1
}

await main()
process.exit()
