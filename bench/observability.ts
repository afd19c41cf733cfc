/**
 * What it costs a service to be observed: `npm run bench:observability` prints, for each part of it, the microseconds of CPU of the
 * server's process that a unary call takes with nothing but that part.
 *
 * All servers run at the same time, each a process of its own of bundled code, and are asked in turn, for less than a second each, in many
 * rounds: other work on the machine only ever adds to what a call takes, so the least of the rounds is what is compared. The load
 * is h2load's, the collector a process that counts, and both are kept off the server's core.
 *
 * `--rounds 25` and `--calls 10000` (of one round) may be given after `--`, and `--only everything` for those whose name has that.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs, promisify } from "node:util"

import { NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { build } from "rolldown"

import * as GrpcChannel from "../src/layers/GrpcChannel.ts"
import * as GrpcClient from "../src/layers/GrpcClient.ts"
import * as GrpcService from "../src/layers/GrpcService.ts"
import { ProjectRoot } from "../src/layers/ProjectRoot.ts"
import { EchoService } from "../src/layers/testing/EchoServer.ts"

interface Variant {
  readonly name: string
  /** What it is observed by: see observedServer.ts and observedClient.ts. */
  readonly part: string
  /** Whether there is a collector. */
  readonly isExported?: boolean
  readonly env?: { readonly [variable: string]: string }
  /** What its callers send. */
  readonly headers?: ReadonlyArray<string>
}

/** Spans are sent so often that no round goes without, which costs a little more than the 5 seconds that are usual. */
const exporting = { isExported: true, env: { OTEL_BSP_SCHEDULE_DELAY: "250" } }

const sampling = (ratio: string) => ({ ...exporting, env: { ...exporting.env, OTEL_TRACES_SAMPLER_ARG: ratio } })

/** Not recorded by its caller, and so not by the one that is called. */
const traceparent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

const servers: ReadonlyArray<Variant> = [
  { name: "nothing", part: "nothing" },
  { name: "nothing, another process of it", part: "nothing" },
  { name: "metrics", part: "metrics" },
  { name: "tracing, no collector", part: "tracing" },
  { name: "tracing, 0 % of the traces", part: "tracing", ...sampling("0") },
  { name: "tracing, 1 %", part: "tracing", ...exporting },
  { name: "tracing, 100 %", part: "tracing", ...sampling("1") },
  { name: "access log at Info: no lines", part: "log" },
  { name: "access log at Debug: a line a call", part: "log", env: { LOG_LEVEL: "Debug" } },
  { name: "error report", part: "errors" },
  { name: "everything, no collector", part: "everything" },
  { name: "everything, 1 %", part: "everything", ...exporting },
  { name: "everything, 1 %, called by who is traced", part: "everything", ...exporting, headers: [traceparent] }
]

const clients: ReadonlyArray<Variant> = [
  { name: "nothing", part: "nothing" },
  { name: "nothing, another process of it", part: "nothing" },
  { name: "everything, no collector", part: "everything" },
  { name: "everything, 0 % of the traces", part: "everything", ...sampling("0") },
  { name: "everything, 1 %", part: "everything", ...exporting },
  { name: "everything, 100 %", part: "everything", ...sampling("1") }
]

/** One variant, running. */
interface Subject {
  readonly name: string
  /** Makes calls, and says for how many microseconds of CPU of the process each. */
  readonly measure: (calls: number) => Promise<number>
  /** How many spans there are by now, were all of them recorded. */
  readonly spans: () => number
  readonly folder: string
}

const path = "/onlinebooks.layers.testing.EchoService/Echo"
const text = "hello"
/** A message with a text alone, in a frame: the request, and the same for the response. */
const frame = Buffer.from([0, 0, 0, 0, text.length + 2, 0x0a, text.length, ...Buffer.from(text)])

const here = fileURLToPath(new URL(".", import.meta.url))
const bundles = join(here, "dist")

const bundle = (program: string) =>
  build({
    input: join(here, `${program}.ts`),
    platform: "node",
    output: { dir: bundles, format: "esm", codeSplitting: false, comments: false },
    checks: { eval: false }
  })

/** How a process is kept on one of the cores, where that can be done. */
const isPinned = availableParallelism() > 1 && spawnSync("taskset", ["--version"]).error === undefined
const on = (core: number, command: string, ...args: ReadonlyArray<string>): [string, ReadonlyArray<string>] =>
  isPinned ? ["taskset", ["-c", String(core), command, ...args]] : [command, args]

const measuredCore = 0
const otherCore = 1

const processes: Array<ChildProcess> = []

// whatever ends this program ends them
process.on("exit", () => processes.forEach((child) => child.kill("SIGKILL")))
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1))

const start = (core: number, program: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv) => {
  const [command, all] = on(core, process.execPath, join(here, program), ...args)
  const child = spawn(command, all, {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "inherit", "ipc"]
  })
  processes.push(child)
  child.on("exit", (code) => {
    console.error(`${program} ${args.join(" ")} has ended with ${code}`)
    process.exit(1)
  })
  return child
}

/** The CPU time of all threads of a process, in microseconds: finer than the hundredths of a second in its stat. */
const cpuOf = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`)
    .map((task) => Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]) / 1000)
    .reduce((sum, micros) => sum + micros, 0)

/** The port in a server's log, whose other lines are read and dropped. */
const portOf = (server: ChildProcess): Promise<number> =>
  new Promise((resolve) => {
    let output = ""
    const onData = (bytes: Buffer) => {
      output += bytes.toString()
      const [, port] = /gRPC is served on [^\s"]+?:(\d+)\b/.exec(output) ?? []
      if (port === undefined) return
      server.stdout?.off("data", onData)
      server.stdout?.resume()
      resolve(Number(port))
    }
    server.stdout?.on("data", onData)
  })

/** Sees that a server answers with OK and what it was asked, which h2load cannot. */
const check = (port: number): Promise<void> =>
  Effect.gen(function* () {
    const { Echo } = yield* GrpcClient.make(EchoService)
    const response = yield* Echo({ text }, { timeout: "10 seconds" })
    if (response.text !== text) return yield* Effect.die(new Error(`It answers ${response.text}`))
  }).pipe(
    Effect.provide(
      GrpcChannel.GrpcChannel.layer({ target: `127.0.0.1:${port}`, observers: [] }).pipe(
        Layer.provideMerge(GrpcService.ProtoFiles.layer("src/layers/testing")),
        Layer.provide(ProjectRoot.layer(import.meta.url, "package.json")),
        Layer.provide(NodeServices.layer)
      )
    ),
    Effect.runPromise
  )

const run = promisify(execFile)

const h2load = async (port: number, file: string, headers: ReadonlyArray<string>, calls: number): Promise<void> => {
  const all = ["content-type: application/grpc", "te: trailers", ...headers].flatMap((header) => ["-H", header])
  const load = ["-n", String(calls), "-c", "4", "-m", "16", "-d", file, ...all, `http://127.0.0.1:${port}${path}`]
  const { stdout } = await run(...on(otherCore, "h2load", ...load))
  const [, data] = /\((\d+)\) data$/m.exec(stdout) ?? []
  // an error of gRPC has no message, and is a success to h2load
  if (!stdout.includes(` ${calls} succeeded`) || Number(data) !== calls * frame.length) {
    throw new Error(`Not all calls were answered with OK:\n${stdout}`)
  }
}

const settingsOf = ({ env, isExported = false }: Variant, folder: string, collector: number): NodeJS.ProcessEnv => ({
  ...env,
  ...(isExported ? { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector}/${folder}` } : {})
})

/** A process whose calls are counted, and which is measured while it is made to do some. */
const subject = (
  { folder, name, pid, spansOfCall }: Pick<Subject, "folder" | "name"> & { pid: number; spansOfCall: number },
  make: (calls: number) => Promise<void>
): Subject => {
  let made = 0
  return {
    name,
    folder,
    spans: () => made * spansOfCall,
    measure: async (calls) => {
      const before = cpuOf(pid)
      await make(calls)
      made += calls
      return (cpuOf(pid) - before) / calls
    }
  }
}

const startServer = async (variant: Variant, folder: string, collector: number, file: string): Promise<Subject> => {
  const env = settingsOf(variant, folder, collector)
  const server = start(measuredCore, "dist/observedServer.js", [variant.part], env)
  const port = await portOf(server)
  await check(port)
  return subject({ name: variant.name, folder, pid: server.pid!, spansOfCall: 1 }, (calls) =>
    h2load(port, file, variant.headers ?? [], calls)
  )
}

const startClient = async (variant: Variant, folder: string, collector: number, target: string): Promise<Subject> => {
  const env = settingsOf(variant, folder, collector)
  const client = start(measuredCore, "dist/observedClient.js", [variant.part, target], env)
  client.stdout?.resume()
  await once(client, "message")
  // one for the call, and one for its attempt
  return subject({ name: variant.name, folder, pid: client.pid!, spansOfCall: 2 }, async (calls) => {
    client.send(calls)
    await once(client, "message")
  })
}

interface Options {
  readonly rounds: number
  readonly calls: number
  readonly spans: () => Promise<{ readonly [folder: string]: number }>
}

const compare = async (subjects: ReadonlyArray<Subject>, { calls, rounds, spans }: Options) => {
  const micros = subjects.map((): Array<number> => [])
  for (const { measure } of subjects) {
    // until the compiler has nothing more to gain
    for (let i = 0; i < 4; i++) await measure(calls)
  }
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < subjects.length; i++) {
      // each round begins with another one
      const at = (round + i) % subjects.length
      micros[at]!.push(await subjects[at]!.measure(calls))
    }
  }
  const received = await spans()
  const least = micros.map((all) => Math.min(...all))
  console.log("    us   more      x  median  spans")
  subjects.forEach(({ folder, name, spans }, at) => {
    const sorted = micros[at]!.toSorted((a, b) => a - b)
    const share = (received[folder] ?? 0) / spans()
    console.log(
      [
        least[at]!.toFixed(1).padStart(6),
        (least[at]! - least[0]!).toFixed(1).padStart(6),
        (least[at]! / least[0]!).toFixed(2).padStart(6),
        sorted[Math.floor(sorted.length / 2)]!.toFixed(1).padStart(7),
        share === 0 ? "".padStart(6) : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`.padStart(6),
        ` ${name}`
      ].join(" ")
    )
  })
}

const main = async () => {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "25" },
      calls: { type: "string", default: "10000" },
      only: { type: "string", default: "" }
    }
  })
  if (spawnSync("h2load", ["--version"]).error !== undefined) {
    console.error("There is no h2load, which makes the load: apt-get install nghttp2-client (Debian, Ubuntu)")
    process.exitCode = 1
    return
  }
  // lines of a server's log are read here
  if (isPinned) spawnSync("taskset", ["-cp", String(otherCore), String(process.pid)])
  else console.log("There is no taskset (util-linux), or one core only: load and servers get into each other's way")

  const folder = mkdtempSync(join(tmpdir(), "observability-"))
  const file = join(folder, "request")
  writeFileSync(file, frame)
  try {
    await Promise.all(["observedServer", "observedClient"].map(bundle))
    const sink = start(otherCore, "otlpSink.ts", [], {})
    const [collector] = (await once(sink, "message")) as [number]
    const spans = async () => {
      sink.send("spans")
      const [counts] = (await once(sink, "message")) as [{ readonly [folder: string]: number }]
      return counts
    }
    const options = { rounds: Number(values.rounds), calls: Number(values.calls), spans }
    const isWanted = ({ name }: Variant, at: number) => at === 0 || name.includes(values.only)

    console.log("\nA server: microseconds of its CPU a call, the least of all rounds; spans that got to the collector")
    const observed: Array<Subject> = []
    for (const [at, variant] of servers.filter(isWanted).entries()) {
      observed.push(await startServer(variant, `server${at}`, collector, file))
    }
    await compare(observed, options)

    console.log("\nA client: the same of its CPU")
    const server = start(otherCore, "dist/observedServer.js", ["nothing"], {})
    const target = `127.0.0.1:${await portOf(server)}`
    const observing: Array<Subject> = []
    for (const [at, variant] of clients.filter(isWanted).entries()) {
      observing.push(await startClient(variant, `client${at}`, collector, target))
    }
    await compare(observing, { ...options, calls: Math.ceil(options.calls / 4) })
  } finally {
    rmSync(folder, { recursive: true })
  }
}

await main()
process.exit()
