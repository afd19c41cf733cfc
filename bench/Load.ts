/**
 * Generates load and checks every answer: h2load for gRPC, wrk for pages.
 */
import { execFile, spawnSync } from "node:child_process"
import { readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

import { on, otherCore } from "./Processes.ts"

/** One round of load. */
export interface Outcome {
  readonly requests: number
  /** The duration, in seconds. */
  readonly seconds: number
  /** Latency percentiles of the requests, in microseconds. */
  readonly median: number
  readonly p99: number
}

const run = promisify(execFile)

/** The load generators that are not installed, with their packages. */
export const missing = (): ReadonlyArray<string> =>
  [
    { command: "h2load", args: ["--version"], from: "nghttp2-client" },
    { command: "wrk", args: ["-v"], from: "wrk" }
  ]
    .filter(({ args, command }) => spawnSync(command, args).error !== undefined)
    .map(({ command, from }) => `${command} (apt-get install ${from})`)

/** The gRPC frame of a message. */
export const frame = (message: Uint8Array): Buffer => {
  const bytes = Buffer.concat([Buffer.alloc(5), message])
  bytes.writeUInt32BE(message.length, 1)
  return bytes
}

export interface GrpcLoad {
  readonly port: number
  readonly path: string
  /** The file with the frame of the request. */
  readonly file: string
  /** The file that h2load writes the latency of each call to. */
  readonly log: string
  readonly connections: number
  /** Concurrent calls on each connection. */
  readonly streams: number
  readonly calls: number
  /** The expected bytes of each answer, with the five of the gRPC frame. */
  readonly answerSize: number
  /** Calls a second; a closed loop without it. */
  readonly rate?: number
}

/** Makes calls in a closed loop. Fails unless every answer is OK and has the expected size. */
export const grpc = async (load: GrpcLoad): Promise<Outcome> => {
  const { answerSize, calls, connections, file, log, path, port, rate, streams } = load
  // h2load appends
  rmSync(log, { force: true })
  const headers = ["content-type: application/grpc", "te: trailers"].flatMap((header) => ["-H", header])
  const how = ["-n", String(calls), "-c", String(connections), "-m", String(streams), "-d", file, `--log-file=${log}`]
  const pace = rate === undefined ? [] : [`--rps=${rate / connections}`]
  const url = `http://127.0.0.1:${port}${path}`
  const { stdout } = await run(...on(otherCore, "h2load", ...how, ...pace, ...headers, url))
  const [, data] = /\((\d+)\) data$/m.exec(stdout) ?? []
  // h2load counts a gRPC error as a success, but an error has no message
  if (!stdout.includes(` ${calls} succeeded`) || Number(data) !== calls * answerSize) {
    throw new Error(`Not every call was answered with OK and ${answerSize} bytes:\n${stdout}`)
  }
  const [, time = "", unit = ""] = /^finished in ([\d.]+)(us|ms|s|m)/m.exec(stdout) ?? []
  const seconds = Number(time) * { us: 1e-6, ms: 1e-3, s: 1, m: 60 }[unit as "us" | "ms" | "s" | "m"]
  // a line for each call: start time, HTTP status, latency
  const latencies = readFileSync(log, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => Number(line.split("\t")[2]))
    .toSorted((a, b) => a - b)
  return { requests: calls, seconds, median: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) }
}

const quantile = (sorted: ReadonlyArray<number>, at: number): number => sorted[Math.floor(sorted.length * at)]!

const script = join(fileURLToPath(new URL(".", import.meta.url)), "books.lua")

export interface PageLoad {
  readonly port: number
  readonly connections: number
  readonly seconds: number
  /** The expected books of each page. */
  readonly books: number
}

/** Requests pages for a duration. Fails unless every page has the expected books. */
export const pages = async ({ books, connections, port, seconds }: PageLoad): Promise<Outcome> => {
  const how = ["-t", "1", "-c", String(connections), "-d", `${seconds}s`, "-s", script]
  const { stdout } = await run(...on(otherCore, "wrk", ...how, `http://127.0.0.1:${port}/`, "--", String(books)))
  const [, json = "{}"] = /^outcome (.*)$/m.exec(stdout) ?? []
  const outcome = JSON.parse(json) as { requests: number; wrong: number; micros: number; median: number; p99: number }
  if (!(outcome.requests > 0) || outcome.wrong !== 0) {
    throw new Error(`Not every page was answered with ${books} books:\n${stdout}`)
  }
  return { ...outcome, seconds: outcome.micros / 1e6 }
}
