/**
 * Measures the cost of observability: `npm run bench:observability` prints, for each observer alone, the CPU time of a unary call in
 * the server's process, and in the client's.
 *
 * All servers run at the same time, as bundles in their own processes, and are loaded in turn in many rounds of less than a second.
 * Other work on the machine can only add to the cost of a call, so the minimum over the rounds counts. JIT compilation differs between
 * processes, so several processes of each are measured, and the median is shown. h2load and the collector run on another core.
 *
 * Options after `--`: `--processes 5`, `--rounds 8`, `--calls 10000` (of a round), and `--only tracing` for the variants with that
 * word in their name, beside the first.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs, promisify } from "node:util"

import { Effect } from "effect"
import { build } from "rolldown"

import * as NodeGrpcChannel from "../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../src/layers/grpc/GrpcClient.ts"
import { EchoService } from "../src/layers/testing/EchoServer.ts"

interface Variant {
  readonly name: string
  /** The name of its observers in observedServer.ts and observedClient.ts. */
  readonly part: string
  /** Whether there is a collector. */
  readonly isExported?: boolean
  readonly env?: { readonly [variable: string]: string }
  /** The headers of its callers. */
  readonly headers?: ReadonlyArray<string>
}

/** Spans are exported more often than by default, so that every round has an export. */
const exporting = { isExported: true, env: { OTEL_BSP_SCHEDULE_DELAY: "250" } }

const sampling = (ratio: string) => ({ ...exporting, env: { ...exporting.env, OTEL_TRACES_SAMPLER_ARG: ratio } })

/** Without the sampled flag, so that the server does not sample either. */
const traceparent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

const servers: ReadonlyArray<Variant> = [
  { name: "nothing", part: "nothing" },
  { name: "nothing, once more", part: "nothing" },
  { name: "metrics", part: "metrics" },
  { name: "tracing, no collector", part: "tracing" },
  { name: "tracing, 0 % of the traces", part: "tracing", ...sampling("0") },
  { name: "tracing, 1 %", part: "tracing", ...exporting },
  { name: "tracing, 100 %", part: "tracing", ...sampling("1") },
  { name: "access log at Info: no lines", part: "log" },
  { name: "access log at Debug: a line a call", part: "log", env: { LOG_LEVEL: "Debug" } },
  { name: "everything, no collector", part: "everything" },
  { name: "everything, 1 %", part: "everything", ...exporting },
  { name: "everything, 1 %, called by who is traced", part: "everything", ...exporting, headers: [traceparent] }
]

const clients: ReadonlyArray<Variant> = [
  { name: "nothing", part: "nothing" },
  { name: "nothing, once more", part: "nothing" },
  { name: "everything, no collector", part: "everything" },
  { name: "everything, 0 % of the traces", part: "everything", ...sampling("0") },
  { name: "everything, 1 %", part: "everything", ...exporting },
  { name: "everything, 100 %", part: "everything", ...sampling("1") }
]

/** A running variant. */
interface Subject {
  readonly pid: number
  readonly make: (calls: number) => Promise<void>
}

const path = "/onlinebooks.layers.testing.EchoService/Echo"
const text = "hello"
/** The gRPC frame of a message with a text, which is both the request and the response. */
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

/** The command that pins a process to a core, where that is possible. */
const isPinned = availableParallelism() > 1 && spawnSync("taskset", ["--version"]).error === undefined
const on = (core: number, command: string, ...args: ReadonlyArray<string>): [string, ReadonlyArray<string>] =>
  isPinned ? ["taskset", ["-c", String(core), command, ...args]] : [command, args]

const measuredCore = 0
const otherCore = 1

const processes: Array<ChildProcess> = []

/** Kills all processes but the first ones. */
const stop = (first = 0) => {
  for (const child of processes.splice(first)) {
    child.removeAllListeners("exit")
    child.kill("SIGKILL")
  }
}

// processes end with this program
process.on("exit", () => stop())
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1))

const start = (core: number, program: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv) => {
  const [command, all] = on(core, process.execPath, join(here, program), ...args)
  const child = spawn(command, all, {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "inherit", "ipc"]
  })
  processes.push(child)
  child.on("exit", (code) => {
    console.error(`${program} ${args.join(" ")} exited with code ${code}`)
    process.exit(1)
  })
  return child
}

/** The CPU time of all threads of a process, in microseconds; its stat has only hundredths of a second. */
const cpuOf = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`)
    .map((task) => Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]) / 1000)
    .reduce((sum, micros) => sum + micros, 0)

/** The port in a server's log; other lines are dropped. */
const portOf = (server: ChildProcess): Promise<number> =>
  new Promise((resolve) => {
    let output = ""
    const onData = (bytes: Buffer) => {
      output += bytes.toString()
      const [, port] = /gRPC server listening on [^\s"]+?:(\d+)\b/.exec(output) ?? []
      if (port === undefined) return
      server.stdout?.off("data", onData)
      server.stdout?.resume()
      resolve(Number(port))
    }
    server.stdout?.on("data", onData)
  })

/** Checks that a server echoes, which h2load cannot. */
const check = (port: number): Promise<void> =>
  Effect.gen(function* () {
    const { Echo } = yield* GrpcClient.make(EchoService)
    const response = yield* Echo({ text }, { timeout: "10 seconds" })
    if (response.text !== text) return yield* Effect.die(new Error(`The server answered ${response.text}`))
  }).pipe(
    Effect.provide(NodeGrpcChannel.layer({ target: `127.0.0.1:${port}`, observers: [], attemptObservers: [] })),
    Effect.runPromise
  )

const run = promisify(execFile)

const h2load = async (port: number, file: string, headers: ReadonlyArray<string>, calls: number): Promise<void> => {
  const all = ["content-type: application/grpc", "te: trailers", ...headers].flatMap((header) => ["-H", header])
  const load = ["-n", String(calls), "-c", "4", "-m", "16", "-d", file, ...all, `http://127.0.0.1:${port}${path}`]
  const { stdout } = await run(...on(otherCore, "h2load", ...load))
  const [, data] = /\((\d+)\) data$/m.exec(stdout) ?? []
  // h2load counts a gRPC error as a success, but an error has no message
  if (!stdout.includes(` ${calls} succeeded`) || Number(data) !== calls * frame.length) {
    throw new Error(`Not every call was answered with OK:\n${stdout}`)
  }
}

const settingsOf = ({ env, isExported = false }: Variant, folder: string, collector: number): NodeJS.ProcessEnv => ({
  ...env,
  ...(isExported ? { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector}/${folder}` } : {})
})

const startServer = async (variant: Variant, settings: NodeJS.ProcessEnv, file: string): Promise<Subject> => {
  const server = start(measuredCore, "dist/observedServer.js", [variant.part], settings)
  const port = await portOf(server)
  await check(port)
  return { pid: server.pid!, make: (calls) => h2load(port, file, variant.headers ?? [], calls) }
}

const startClient = async (variant: Variant, settings: NodeJS.ProcessEnv, target: string): Promise<Subject> => {
  const client = start(measuredCore, "dist/observedClient.js", [variant.part, target], settings)
  client.stdout?.resume()
  await once(client, "message")
  const make = async (calls: number) => {
    client.send(calls)
    await once(client, "message")
  }
  return { pid: client.pid!, make }
}

interface Options {
  /** Processes of each variant, one after the other; rounds of each process; calls of each round. */
  readonly processes: number
  readonly rounds: number
  readonly calls: number
  /** The spans that the collector received, by path segment. */
  readonly spans: () => Promise<{ readonly [folder: string]: number }>
  readonly folderOf: (variant: Variant) => string
  readonly start: (variant: Variant) => Promise<Subject>
}

/** Rounds that are not counted, until the JIT compiler has settled. */
const warmUps = 4

const measure = async ({ make, pid }: Subject, calls: number): Promise<number> => {
  const before = cpuOf(pid)
  await make(calls)
  return (cpuOf(pid) - before) / calls
}

const compare = async (variants: ReadonlyArray<Variant>, options: Options) => {
  const { calls, folderOf, rounds, spans, start } = options
  const others = processes.length
  const leasts = variants.map((): Array<number> => [])
  for (let i = 0; i < options.processes; i++) {
    const subjects: Array<Subject> = []
    for (const variant of variants) subjects.push(await start(variant))
    for (const subject of subjects) {
      for (let warmUp = 0; warmUp < warmUps; warmUp++) await subject.make(calls)
    }
    const micros = subjects.map((): Array<number> => [])
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < subjects.length; turn++) {
        // each round begins with another variant
        const at = (round + turn) % subjects.length
        micros[at]!.push(await measure(subjects[at]!, calls))
      }
    }
    micros.forEach((all, at) => leasts[at]!.push(Math.min(...all)))
    stop(others)
  }
  const received = await spans()
  const made = options.processes * (rounds + warmUps) * calls
  const sorted = leasts.map((all) => all.toSorted((a, b) => a - b))
  const middle = (all: ReadonlyArray<number>) => all[Math.floor(all.length / 2)]!
  const nothing = middle(sorted[0]!)
  console.log("    us    more       x   from     to    spans")
  variants.forEach((variant, at) => {
    const all = sorted[at]!
    const recorded = received[folderOf(variant)] ?? 0
    console.log(
      [
        middle(all).toFixed(1).padStart(6),
        (middle(all) - nothing).toFixed(1).padStart(7),
        (middle(all) / nothing).toFixed(2).padStart(7),
        all[0]!.toFixed(1).padStart(6),
        all.at(-1)!.toFixed(1).padStart(6),
        (recorded === 0 ? "" : (recorded / made).toFixed(3)).padStart(8),
        ` ${variant.name}`
      ].join(" ")
    )
  })
}

const main = async () => {
  const { values } = parseArgs({
    options: {
      processes: { type: "string", default: "5" },
      rounds: { type: "string", default: "8" },
      calls: { type: "string", default: "10000" },
      only: { type: "string", default: "" }
    }
  })
  if (spawnSync("h2load", ["--version"]).error !== undefined) {
    console.error("Missing load generator: h2load (apt-get install nghttp2-client)")
    process.exitCode = 1
    return
  }
  // lines of a server's log are read here
  if (isPinned) spawnSync("taskset", ["-cp", String(otherCore), String(process.pid)])
  else console.log("taskset (util-linux) is missing, or there is one core only: load and servers share cores")

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
    const options = { processes: Number(values.processes), rounds: Number(values.rounds), spans }
    const calls = Number(values.calls)
    const isWanted = ({ name }: Variant, at: number) => at === 0 || name.includes(values.only)

    console.log("\nServer: CPU microseconds a call; spans a call received by the collector")
    const folderOfServer = (variant: Variant) => `server${servers.indexOf(variant)}`
    await compare(servers.filter(isWanted), {
      ...options,
      calls,
      folderOf: folderOfServer,
      start: (variant) => startServer(variant, settingsOf(variant, folderOfServer(variant), collector), file)
    })

    console.log("\nClient: CPU microseconds a call; spans a call received by the collector")
    const target = `127.0.0.1:${await portOf(start(otherCore, "dist/observedServer.js", ["nothing"], {}))}`
    const folderOfClient = (variant: Variant) => `client${clients.indexOf(variant)}`
    await compare(clients.filter(isWanted), {
      ...options,
      calls: Math.ceil(calls / 2),
      folderOf: folderOfClient,
      start: (variant) => startClient(variant, settingsOf(variant, folderOfClient(variant), collector), target)
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
}

await main()
process.exit()
