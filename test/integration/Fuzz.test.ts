/**
 * After 20,000 connections of the fuzzer ({@link file://./Fuzz.ts}), servers have logged no bug, hold no resources, and still serve calls.
 * The seed is logged. FUZZ_SEED repeats the same connections, and FUZZ_FIRST and FUZZ_COUNT select some of them.
 */
import { readdirSync, readlinkSync } from "node:fs"
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schedule, Schema } from "effect"
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

/** The process under test. */
interface Subject {
  readonly pid: number
  readonly port: number
  readonly adminPort: number
  readonly output: Effect.Effect<string>
}

/** Small limits for concurrency, queue and waiting time. */
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
  const [, port] = yield* match(/gRPC server listening on [^\s"]+?:(\d+)\b/)
  return { pid: handle.pid, port: Number(port), adminPort: Number(adminPort), output: text } satisfies Subject
})

const startRecommendations = Effect.gen(function* () {
  const { start } = yield* Installation
  return yield* start("recommendations", limitsOf("RECOMMENDATIONS"))
})

/** The number of open sockets of a process. */
const socketsOf = (pid: number): number =>
  readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("socket:")
    } catch {
      // the descriptor was closed meanwhile
      return false
    }
  }).length

/** Lines that indicate a bug: output that is not a log line, and errors other than exceeded deadlines, which callers choose. */
const bugs = (output: string): ReadonlyArray<string> =>
  output
    .split("\n")
    .filter((line) => line !== "" && !/^\{.*"level":"(TRACE|DEBUG|INFO|WARN)"/.test(line))
    .filter((line) => !/^\{.*"level":"ERROR".*"code":"DeadlineExceeded"/.test(line))

/** The resources that a server still holds: gauges above zero, and sockets. */
const held = Effect.fnUntraced(function* ({ adminPort, pid }: Subject) {
  const { samples, text } = yield* scrape(adminPort)
  const isGauge = (name: string) => text.includes(`# TYPE ${name} gauge\n`) && !name.includes("limit")
  const gauges = samples.filter(({ name, value }) => name.startsWith("grpc_server_") && isGauge(name) && value !== 0)
  return { gauges: gauges.map(({ name, value }) => `${name} ${value}`), sockets: socketsOf(pid) }
})

/** Makes a valid call and succeeds with its status. */
const isServed = ({ port }: Subject, path: string) =>
  Effect.scoped(Effect.flatMap(RawCall.hold(port, path), ({ finish }) => finish))

/** Waits until no resources are held, for at most 15 seconds, and returns those that are. */
const heldNothing = (subject: Subject, maxSockets = Infinity) =>
  held(subject).pipe(
    Effect.repeat({
      until: ({ gauges, sockets }) => gauges.length === 0 && sockets <= maxSockets,
      schedule: Schedule.spaced("100 millis"),
      times: 150
    })
  )

/**
 * An assertion of Node 26.10 that ends the process when an HTTP/2 session is collected before one of its streams:
 * docs/decisions/0020-a-known-crash-of-node.md.
 */
class KnownCrash extends Schema.TaggedError<KnownCrash>()("KnownCrash", {}) {
  static readonly output = "Assertion failed: (current_nghttp2_memory_) == (0)"
}

/** Runs the fuzzer against a server, and asserts that the server logs no bug, releases all resources and serves a valid call. */
const assertUnharmed = Effect.fnUntraced(function* <E, R>(
  start: Effect.Effect<Subject, E, R>,
  methods: ReadonlyArray<Fuzz.Method>,
  goodPath: string,
  seed: number
) {
  yield* Effect.logInfo(`FUZZ_SEED=${seed}`)
  const subject = yield* start
  yield* Effect.gen(function* () {
    assert.strictEqual(yield* isServed(subject, goodPath), "0")
    const { sockets } = yield* heldNothing(subject)
    const suspects = yield* Effect.callback<ReadonlyArray<number>>((resume) =>
      Fuzz.runAll({ port: subject.port, seed, first, count, methods }, (all) => resume(Effect.succeed(all)))
    )
    assert.deepStrictEqual(
      { bugs: bugs(yield* subject.output).slice(0, 20), suspects },
      { bugs: [], suspects: [] },
      "suspects are the connections that were open when the server stopped accepting connections"
    )
    // the server's timeouts may take a few seconds to close abandoned connections
    const after = yield* heldNothing(subject, sockets)
    assert.deepStrictEqual(after.gauges, [])
    assert.isAtMost(after.sockets, sockets)
    assert.strictEqual(yield* isServed(subject, goodPath), "0")
    assert.deepStrictEqual(bugs(yield* subject.output).slice(0, 20), [])
  }).pipe(
    Effect.catchCause((cause) =>
      Effect.flatMap(subject.output, (output) =>
        output.includes(KnownCrash.output) ? Effect.fail(new KnownCrash()) : Effect.failCause(cause)
      )
    )
  )
})

/** Repeats a run with another seed after a known crash of Node, twice at most. */
const exceptKnownCrash = <E, R>(
  run: (seed: number) => Effect.Effect<void, E | KnownCrash, R>,
  attempt = 1
): Effect.Effect<void, E | KnownCrash, R> => {
  const attemptSeed = seed + attempt - 1
  return Effect.tapCause(run(attemptSeed), () => Effect.logError(`FUZZ_SEED=${attemptSeed} reproduces this run`)).pipe(
    Effect.catchIf(
      (error): error is KnownCrash => error instanceof KnownCrash && attempt < 3,
      () => exceptKnownCrash(run, attempt + 1)
    )
  )
}

const services = Layer.mergeAll(NodeServices.layer, FetchHttpClient.layer)

describe("20,000 fuzzed connections", () => {
  it.live(
    "leave Recommendations serving, without errors or leaks",
    () =>
      exceptKnownCrash((seed) =>
        assertUnharmed(
          startRecommendations,
          Fuzz.recommendationsMethods,
          "/onlinebooks.recommendations.v1.RecommendationsService/ListCategories",
          seed
        ).pipe(Effect.scoped, Effect.provide(Layer.merge(Installation.layer, services)))
      ),
    600_000
  )

  it.live(
    "leave a server with methods of all kinds serving, without errors or leaks",
    () =>
      exceptKnownCrash((seed) =>
        assertUnharmed(startEcho, Fuzz.echoMethods, "/onlinebooks.layers.testing.EchoService/Echo", seed).pipe(
          Effect.scoped,
          Effect.provide(services)
        )
      ),
    600_000
  )
})
