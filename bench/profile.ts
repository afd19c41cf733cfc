/**
 * Profiles a loaded server: `npm run profile` writes a CPU profile (for a browser's developer tools) and a flame graph to
 * `bench/profiles/`, and prints the functions with the most self time.
 *
 * `-- page` profiles Marketplace, `-- by-hand` and `-- page-by-hand` the same written by hand, `-- record`, `record-100`, `search` and
 * `list` Recommendations with the rows of these names; `--rounds 20` sets the duration.
 */
import { once } from "node:events"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"

import * as Catalogues from "./Catalogues.ts"
import * as Contestants from "./Contestants.ts"
import * as DatabaseRows from "./DatabaseRows.ts"
import * as FlameGraph from "./FlameGraph.ts"
import * as Load from "./Load.ts"
import * as Processes from "./Processes.ts"
import { recommend, recommendPath } from "./Requests.ts"

const subjects: { readonly [name: string]: Contestants.Contestant } = {
  recommend: Contestants.ours,
  "by-hand": Contestants.byHand,
  page: Contestants.ourPage,
  "page-by-hand": Contestants.pageByHand,
  ...Object.fromEntries(DatabaseRows.workloads.map(({ key }) => [key, Contestants.ours]))
}

const ready = async (port: number) => {
  const socket = await Contestants.connected(port)
  socket.destroy()
}

const main = async () => {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: "string", default: "20" } }
  })
  const [name = "recommend"] = positionals
  const subject = subjects[name]
  const missing = Load.missing()
  if (subject === undefined || missing.length > 0) {
    console.error(
      subject === undefined
        ? `Unknown profile ${name}; expected one of ${Object.keys(subjects).join(", ")}`
        : `Missing load generators: ${missing.join(", ")}`
    )
    process.exitCode = 1
    return
  }
  const isPage = name.startsWith("page")
  await Contestants.prepare()
  const folder = mkdtempSync(join(tmpdir(), "profile-"))
  const profiles = join(import.meta.dirname, "profiles")
  mkdirSync(profiles, { recursive: true })
  try {
    const sink = Processes.start({
      core: Processes.otherCore,
      command: process.execPath,
      args: [join(import.meta.dirname, "otlpSink.ts")]
    })
    const [collector] = (await once(sink, "message")) as [number]
    const { bookSize, text } = Catalogues.shipped()
    const shipped = join(folder, "books.csv")
    const workload = DatabaseRows.workloads.find(({ key }) => key === name)
    const made = DatabaseRows.makeCatalogue({ folder })
    const catalogue = workload === undefined ? shipped : made.file
    const file = join(folder, "request")
    writeFileSync(shipped, text)
    writeFileSync(file, recommend(3))
    const backend = await Contestants.freePort()
    if (isPage) {
      Contestants.ours.start({ core: Processes.otherCore, port: backend })
      await ready(backend)
    }
    const port = await Contestants.freePort()
    const server = subject.start({
      core: Processes.measuredCore,
      port,
      catalogue,
      collector: `http://127.0.0.1:${collector}`,
      ...(isPage ? { backend } : {}),
      nodeOptions: `--import=${join(import.meta.dirname, "profiler.ts")}`
    })
    await ready(port)
    const log = join(folder, "calls")
    const grpc = { port, path: recommendPath, file, log, connections: 4, streams: 16, answerSize: 5 + 3 * bookSize }
    const loadDatabase = workload === undefined ? undefined : await DatabaseRows.startLoad(workload, port, made.bookIds)
    const load = () =>
      loadDatabase !== undefined
        ? loadDatabase()
        : isPage
          ? Load.pages({ port, connections: 16, seconds: 1, books: 3 })
          : Load.grpc({ ...grpc, calls: 10_000 })
    const tell = async (what: string) => {
      server.send(what)
      await once(server, "message")
    }
    for (let warmUp = 0; warmUp < 4; warmUp++) await load()
    await tell("")
    for (let round = 0; round < Number(values.rounds); round++) await load()
    const target = join(profiles, name)
    await tell(`${target}.cpuprofile`)
    const profile = JSON.parse(readFileSync(`${target}.cpuprofile`, "utf8")) as FlameGraph.Profile
    writeFileSync(`${target}.svg`, FlameGraph.toSvg(profile))
    for (const { name, part } of FlameGraph.hottest(profile, 40)) {
      console.log(`${(part * 100).toFixed(1).padStart(5)} %  ${name}`)
    }
    console.log(`\n${target}.cpuprofile\n${target}.svg`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

await main()
process.exit()
