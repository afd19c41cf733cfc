/**
 * Overloads a whole shop: three replicas of each built service share this machine, and pages are requested at a rate that does not wait
 * for answers.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { Agent, get } from "node:http"
import { fileURLToPath } from "node:url"

import * as Processes from "./Processes.ts"
import * as TemporaryDatabase from "./TemporaryDatabase.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

/** Replicas of each service. */
const replicas = 3

/** How long a reader waits for a page, in milliseconds. */
const patience = 3_000

/** The duration of the load, in milliseconds. */
const duration = 8_000

/** Pages a second: requested, answered in time with books and without, answered with 503, and answered late or not at all. */
export interface Point {
  readonly offered: number
  readonly withBooks: number
  readonly withoutBooks: number
  readonly refused: number
  readonly late: number
  /** Latency percentiles of pages with books, in milliseconds. */
  readonly median: number
  readonly p99: number
}

interface Answer {
  /** Undefined if the connection failed. */
  readonly status: number | undefined
  readonly hasBooks: boolean
  /** In milliseconds. */
  readonly time: number
}

export const measure = async (rates: ReadonlyArray<number>): Promise<ReadonlyArray<Point>> => {
  const children: Array<ChildProcess> = []
  const start = async (service: string, env: NodeJS.ProcessEnv, served: RegExp): Promise<number> => {
    const child = spawn(process.execPath, [`dist/${service}.js`], {
      cwd: root,
      env: { ...env, [`${service.toUpperCase()}_ADMIN_PORT`]: "0" },
      stdio: ["ignore", "pipe", "inherit"]
    })
    children.push(child)
    return Number(await Processes.find(child, served))
  }
  const startAll = (service: string, env: () => NodeJS.ProcessEnv, served: RegExp) =>
    Promise.all(Array.from({ length: replicas }, () => start(service, env(), served)))
  try {
    const backends = await startAll(
      "recommendations",
      () => ({
        DATABASE_URL: TemporaryDatabase.create(),
        RECOMMENDATIONS_GRPC_HOST: "127.0.0.1",
        RECOMMENDATIONS_GRPC_PORT: "0"
      }),
      /gRPC server listening on [^\s"]+?:(\d+)\b/
    )
    const ports = await startAll(
      "marketplace",
      () => ({
        MARKETPLACE_HTTP_HOST: "127.0.0.1",
        MARKETPLACE_HTTP_PORT: "0",
        RECOMMENDATIONS_TARGET: `ipv4:${backends.map((port) => `127.0.0.1:${port}`).join(",")}`
      }),
      /HTTP server listening on http:[^\s"]+?:(\d+)\b/
    )
    const agent = new Agent({ keepAlive: true, maxFreeSockets: Infinity })
    let next = 0
    const ask = () => page(agent, ports[next++ % ports.length]!)
    // warm up
    for (let count = 0; count < 500 * replicas; count++) await ask()
    const points: Array<Point> = []
    for (const rate of rates) points.push(await at(rate, ask))
    agent.destroy()
    return points
  } finally {
    for (const child of children) child.kill("SIGKILL")
  }
}

const page = (agent: Agent, port: number): Promise<Answer> =>
  new Promise((resolve) => {
    const startedAt = performance.now()
    const end = (status: number | undefined, hasBooks: boolean) =>
      resolve({ status, hasBooks, time: performance.now() - startedAt })
    const request = get({ agent, host: "127.0.0.1", port }, (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk: string) => (text += chunk))
      response.on("end", () => end(response.statusCode, text.includes('<ul class="books">')))
    })
    request.on("error", () => end(undefined, false))
  })

const at = async (rate: number, ask: () => Promise<Answer>): Promise<Point> => {
  const asked: Array<Promise<Answer>> = []
  const startedAt = performance.now()
  for (let time = 0; time < duration; time = performance.now() - startedAt) {
    while (asked.length < (time / 1000) * rate) asked.push(ask())
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  const elapsed = performance.now() - startedAt
  const answers = await Promise.all(asked)
  const inTime = answers.filter(({ time }) => time <= patience)
  const share = (some: ReadonlyArray<Answer>) => some.length / answers.length
  const pages = inTime.filter(({ status }) => status === 200)
  const refused = share(inTime.filter(({ status }) => status === 503))
  const times = pages
    .filter(({ hasBooks }) => hasBooks)
    .map(({ time }) => time)
    .toSorted((a, b) => a - b)
  return {
    offered: (answers.length / elapsed) * 1000,
    withBooks: times.length / answers.length,
    withoutBooks: share(pages.filter(({ hasBooks }) => !hasBooks)),
    refused,
    late: 1 - share(pages) - refused,
    median: times[Math.floor(times.length / 2)] ?? Number.NaN,
    p99: times[Math.floor(times.length * 0.99)] ?? Number.NaN
  }
}

/** Prints the outcome at each rate. */
export const print = (points: ReadonlyArray<Point>): void => {
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`.padStart(10)
  console.log(" offered with books   no books        503       late   median      p99")
  for (const { late, median, offered, p99, refused, withBooks, withoutBooks } of points) {
    const shares = [withBooks, withoutBooks, refused, late].map(percent)
    const times = [median, p99].map((millis) => millis.toFixed(0).padStart(8))
    console.log([offered.toFixed(0).padStart(8), ...shares, ...times].join(" "))
  }
}
