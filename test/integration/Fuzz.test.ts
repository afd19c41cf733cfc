/**
 * Servers that are sent 20,000 connections by the fuzzer ({@link file://./Fuzz.ts}) live, log no bug, hold on to nothing, and answer
 * as before. The seed is printed: FUZZ_SEED makes the same connections again, FUZZ_FIRST and FUZZ_COUNT some of them.
 */
import { readdirSync, readlinkSync } from "node:fs"
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import { FetchHttpClient } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import * as Fuzz from "./Fuzz.ts"
import { type Environment, Installation } from "./Installation.ts"
import * as Output from "./Output.ts"
import * as RawCall from "./RawCall.ts"
import { scrape } from "./Scrape.ts"

const seed = Number(process.env["FUZZ_SEED"] ?? Math.floor(Math.random() * 2 ** 31))
const first = Number(process.env["FUZZ_FIRST"] ?? 0)
const count = Number(process.env["FUZZ_COUNT"] ?? 20_000)

/** A process to be fuzzed. */
interface Subject {
  readonly pid: number
  readonly port: number
  readonly adminPort: number
  readonly output: Effect.Effect<string>
}

/** Few calls at a time, and few that wait, and not for long. */
const limitsOf = (prefix: string): Environment => ({
  [`${prefix}_MAX_CONCURRENCY`]: "16",
  [`${prefix}_MAX_QUEUE`]: "8",
  [`${prefix}_MAX_QUEUE_WAIT`]: "5 millis",
  LOG_FORMAT: "json"
})

/** Starts the server of {@link file://./fuzzServer.ts}. */
const startEcho = Effect.gen(function* () {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(
    ChildProcess.make(process.execPath, [fileURLToPath(new URL("fuzzServer.ts", import.meta.url))], {
      env: { ...limitsOf("ECHO"), ECHO_GRPC_PORT: "0", ECHO_ADMIN_PORT: "0" },
      extendEnv: false,
      forceKillAfter: "5 seconds"
    })
  )
  const { match, text } = yield* Output.follow("the fuzzed server", handle)
  const [, adminPort] = yield* match(/Admin server listening on http:\/\/[^\s"]+?:(\d+)\b/)
  const [, port] = yield* match(/gRPC is served on [^\s"]+?:(\d+)\b/)
  return { pid: handle.pid, port: Number(port), adminPort: Number(adminPort), output: text } satisfies Subject
})

const startRecommendations = Effect.gen(function* () {
  const { start } = yield* Installation
  return yield* start("recommendations", limitsOf("RECOMMENDATIONS"))
})

/** The sockets that a process has open. */
const socketsOf = (pid: number): number =>
  readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("socket:")
    } catch {
      // it has been closed since
      return false
    }
  }).length

/** Lines that tell of a bug: what is not of the log at all, and errors but for deadlines, which callers choose. */
const bugs = (output: string): ReadonlyArray<string> =>
  output
    .split("\n")
    .filter((line) => line !== "" && !/^\{.*"level":"(TRACE|DEBUG|INFO|WARN)"/.test(line))
    .filter((line) => !/^\{.*"level":"ERROR".*"code":"DeadlineExceeded"/.test(line))

/** What a server still holds: gauges that are not at zero, and sockets. */
const held = Effect.fnUntraced(function* ({ adminPort, pid }: Subject) {
  const { samples, text } = yield* scrape(adminPort)
  const isGauge = (name: string) => text.includes(`# TYPE ${name} gauge\n`) && !name.includes("limit")
  const gauges = samples.filter(({ name, value }) => name.startsWith("grpc_server_") && isGauge(name) && value !== 0)
  return { gauges: gauges.map(({ name, value }) => `${name} ${value}`), sockets: socketsOf(pid) }
})

/** A call that is right is answered, as soon as nothing is held any more. */
const isServed = ({ port }: Subject, path: string) =>
  Effect.scoped(Effect.flatMap(RawCall.hold(port, path), ({ finish }) => finish))

/** What it still holds once that is nothing, or after 15 seconds. */
const heldNothing = (subject: Subject, maxSockets = Infinity) =>
  held(subject).pipe(
    Effect.repeat({
      until: ({ gauges, sockets }) => gauges.length === 0 && sockets <= maxSockets,
      schedule: Schedule.spaced("100 millis"),
      times: 150
    })
  )

const minds = Effect.fnUntraced(function* <E, R>(
  start: Effect.Effect<Subject, E, R>,
  methods: ReadonlyArray<Fuzz.Method>,
  goodPath: string
) {
  yield* Effect.logInfo(`FUZZ_SEED=${seed}`)
  const subject = yield* start
  assert.strictEqual(yield* isServed(subject, goodPath), "0")
  const { sockets } = yield* heldNothing(subject)
  const suspects = yield* Effect.callback<ReadonlyArray<number>>((resume) =>
    Fuzz.runAll({ port: subject.port, seed, first, count, methods }, (all) => resume(Effect.succeed(all)))
  )
  assert.deepStrictEqual(
    { bugs: bugs(yield* subject.output).slice(0, 20), suspects },
    { bugs: [], suspects: [] },
    "suspects are the connections that were open when the server could not be connected to any more"
  )
  // its own time-outs may take a few seconds to end what nobody has ended
  const after = yield* heldNothing(subject, sockets)
  assert.deepStrictEqual(after.gauges, [])
  assert.isAtMost(after.sockets, sockets)
  assert.strictEqual(yield* isServed(subject, goodPath), "0")
  assert.deepStrictEqual(bugs(yield* subject.output).slice(0, 20), [])
})

const services = Layer.mergeAll(NodeServices.layer, FetchHttpClient.layer)

describe("20,000 connections of garbage", () => {
  const fuzzes = <E, R>(what: Effect.Effect<void, E, R>) =>
    Effect.tapCause(what, () => Effect.logError(`FUZZ_SEED=${seed} makes it happen again`))

  it.live(
    "do not harm Recommendations",
    () =>
      minds(
        startRecommendations,
        Fuzz.recommendationsMethods,
        "/onlinebooks.recommendations.v1.RecommendationsService/ListCategories"
      ).pipe(fuzzes, Effect.scoped, Effect.provide(Layer.merge(Installation.layer, services))),
    400_000
  )

  it.live(
    "do not harm a server with methods of all kinds",
    () =>
      minds(startEcho, Fuzz.echoMethods, "/onlinebooks.layers.testing.EchoService/Echo").pipe(
        fuzzes,
        Effect.scoped,
        Effect.provide(services)
      ),
    400_000
  )
})
