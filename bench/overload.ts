/**
 * What becomes of a server that is offered more than it can do: `npm run bench:overload` prints the curve.
 *
 * Two servers are asked, each a process of its own, by calls at a rate that does not wait for answers and that each give up
 * after 800 ms. One waits in its handler, as for a database: what it can do is its limit of concurrency over that wait, and
 * what is above is refused. The others never wait: what they can do is the processor's, and refusing a call costs it too, so what is
 * above costs goodput. One of these computes for 200 us, and the other is Recommendations as it is built, which can do nearly as
 * much as this program can ask for.
 */
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

import * as OpenLoad from "./OpenLoad.ts"
import * as OverloadedShop from "./OverloadedShop.ts"

/** How long each point of the curve takes, in milliseconds. */
const duration = 3_000

export interface Subject {
  readonly name: string
  /** What Node runs, from the project's root. */
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

/** This program has itself too much to do at three times of what the server can with 100 books, and at twice with 3. */
export const recommendations = (books: number): Subject => ({
  name: `Recommend, ${books} books`,
  program: "dist/recommendations.js",
  env: { RECOMMENDATIONS_GRPC_PORT: "0", RECOMMENDATIONS_ADMIN_PORT: "0" },
  path: "/onlinebooks.recommendations.v1.RecommendationsService/Recommend",
  message: Uint8Array.of(0x18, books)
})

export interface Point {
  /** Calls a second that were offered, answered with OK, refused, and given up or lost. */
  readonly offered: number
  readonly goodput: number
  readonly refused: number
  readonly lost: number
  /** Of the calls that were answered with OK, in milliseconds. */
  readonly median: number
  readonly p99: number
  /** Resident memory of the server, in MiB. */
  readonly memory: number
}

export interface Curve {
  /** At a tenth of what it can do. */
  readonly unloaded: Point
  /** By the factor of what it can do that was offered. */
  readonly points: ReadonlyMap<number, Point>
}

/**
 * Measures a curve, at the given factors of what the server can do. Of one that is given more than once the best time counts, since
 * other work on the machine only takes away.
 */
export const measure = async (subject: Subject, factors: ReadonlyArray<number>): Promise<Curve> => {
  const root = fileURLToPath(new URL("..", import.meta.url))
  const server = spawn(process.execPath, [subject.program], {
    cwd: root,
    env: subject.env,
    stdio: ["ignore", "pipe", "inherit"]
  })
  try {
    const port = await new Promise<number>((resolve, reject) => {
      let output = ""
      server.stdout.on("data", (bytes: Buffer) => {
        output += bytes.toString()
        const [, port] = /gRPC is served on [^\s"]+?:(\d+)\b/.exec(output) ?? []
        if (port !== undefined) resolve(Number(port))
      })
      server.on("exit", () => reject(new Error(`it has ended: ${output}`)))
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
    // warm, then as many as it can be made to do
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
  console.log("\nPages, of three replicas of each service on this machine (pages a second; milliseconds)")
  OverloadedShop.print(await OverloadedShop.measure([300, 600, 1_200, 2_400, 4_800]))
}
