/**
 * Measures goodput under overload: `npm run bench:overload` prints a curve for each server.
 *
 * The load is open-loop, and each call times out after 800 ms. One server waits in its handler, as for a database: its capacity is the
 * concurrency limit divided by the wait, and calls above it are refused. The others are bound by the processor, so that refusing a
 * call costs goodput too: one computes for 200 us in its handler, the other is the built Recommendations, whose capacity is near that
 * of the load generator.
 */
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

import * as OpenLoad from "./OpenLoad.ts"
import * as OverloadedShop from "./OverloadedShop.ts"
import * as TemporaryDatabase from "./TemporaryDatabase.ts"

/** The duration of each point of the curve, in milliseconds. */
const duration = 3_000

export interface Subject {
  readonly name: string
  /** The program, relative to the project's root. */
  readonly program: string
  readonly env: { readonly [variable: string]: string }
  readonly path: string
  readonly message: Uint8Array
}

export const waiting: Subject = {
  name: "a handler that waits for 20 ms, 20 at a time",
  program: "bench/waitingServer.ts",
  env: {},
  path: "/onlinebooks.layers.testing.EchoService/EchoOnce",
  message: new Uint8Array()
}

export const computing: Subject = {
  ...waiting,
  name: "a handler that computes for 200 us",
  env: { COMPUTES: "1" }
}

/** The load generator is overloaded at three times the server's capacity with 100 books, and at twice with 3. */
export const recommendations = (books: number): Subject => ({
  name: `Recommend, ${books} books`,
  program: "dist/recommendations.js",
  env: { RECOMMENDATIONS_GRPC_PORT: "0", RECOMMENDATIONS_ADMIN_PORT: "0" },
  path: "/onlinebooks.recommendations.v1.RecommendationsService/Recommend",
  message: Uint8Array.of(0x18, books)
})

export interface Point {
  /** Calls a second: offered, answered with OK, refused, and timed out or lost. */
  readonly offered: number
  readonly goodput: number
  readonly refused: number
  readonly lost: number
  /** Latency percentiles of calls that were answered with OK, in milliseconds. */
  readonly median: number
  readonly p99: number
  /** Resident memory of the server, in MiB. */
  readonly memory: number
}

export interface Curve {
  /** At a tenth of the capacity. */
  readonly unloaded: Point
  /** By the factor of the capacity that was offered. */
  readonly points: ReadonlyMap<number, Point>
}

/**
 * Measures a curve at factors of the server's capacity. Of a factor that is given more than once the best run counts, since other work
 * on the machine can only reduce goodput.
 */
export const measure = async (subject: Subject, factors: ReadonlyArray<number>): Promise<Curve> => {
  const root = fileURLToPath(new URL("..", import.meta.url))
  const server = TemporaryDatabase.startWith((database) =>
    spawn(process.execPath, [subject.program], {
      cwd: root,
      env: { ...subject.env, DATABASE_URL: database },
      stdio: ["ignore", "pipe", "inherit"]
    })
  )
  try {
    const port = await new Promise<number>((resolve, reject) => {
      let output = ""
      server.stdout.on("data", (bytes: Buffer) => {
        output += bytes.toString()
        const [, port] = /gRPC server listening on [^\s"]+?:(\d+)\b/.exec(output) ?? []
        if (port !== undefined) resolve(Number(port))
      })
      server.on("exit", () => reject(new Error(`The server exited: ${output}`)))
    })
    const load = await OpenLoad.start({ ...subject, port, connections: 8, timeout: 800 })
    const memory = () =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1] ?? 0) / 1024
    const toPoint = (offered: number, { elapsed, latencies, statuses }: OpenLoad.Outcome): Point => {
      const perSecond = (count: number) => (count / elapsed) * 1000
      const refused = statuses.get(8) ?? 0
      const ended = Array.from(statuses.values()).reduce((sum, count) => sum + count, 0)
      return {
        offered,
        goodput: perSecond(latencies.length),
        refused: perSecond(refused),
        lost: perSecond(ended - refused - latencies.length),
        median: latencies[Math.floor(latencies.length / 2)] ?? Number.NaN,
        p99: latencies[Math.floor(latencies.length * 0.99)] ?? Number.NaN,
        memory: memory()
      }
    }
    // warm up, then measure the capacity
    await load.saturate(64, duration)
    const { elapsed, latencies } = await load.saturate(64, duration)
    const capacity = (latencies.length / elapsed) * 1000
    const at = async (factor: number) => toPoint(capacity * factor, await load.run(capacity * factor, duration))
    const unloaded = await at(0.1)
    const points = new Map<number, Point>()
    for (const factor of factors) {
      const point = await at(factor)
      const best = points.get(factor)
      if (best === undefined || point.goodput > best.goodput) points.set(factor, point)
    }
    load.close()
    return { unloaded, points }
  } finally {
    server.removeAllListeners("exit")
    server.kill("SIGKILL")
  }
}

const print = ({ points, unloaded }: Curve) => {
  const row = (name: string, point: Point) =>
    [
      name.padStart(6),
      ...[point.offered, point.goodput, point.refused, point.lost].map((rate) => rate.toFixed(0).padStart(8)),
      ...[point.median, point.p99].map((millis) => millis.toFixed(1).padStart(8)),
      point.memory.toFixed(0).padStart(8)
    ].join(" ")
  console.log("     x  offered  goodput  refused     lost   median      p99   memory")
  console.log(row("0.1", unloaded))
  for (const [factor, point] of points) console.log(row(String(factor), point))
}

if (import.meta.main) {
  for (const subject of [waiting, computing, recommendations(100), recommendations(3)]) {
    console.log(`\n${subject.name} (calls a second; milliseconds; MiB)`)
    print(await measure(subject, [0.5, 0.8, 1, 1.5, 2, 3]))
  }
  console.log("\nPages of three replicas of each service on this machine (pages a second; milliseconds)")
  OverloadedShop.print(await OverloadedShop.measure([300, 600, 1_200, 2_400, 4_800]))
}
