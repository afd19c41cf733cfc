/**
 * A process survives problems with its log output: a reader that stalls, a reader that exits, a full disk.
 */
import { execFileSync, spawn } from "node:child_process"
import { closeSync, constants, createReadStream, openSync } from "node:fs"
import type { Readable } from "node:stream"

import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Schedule } from "effect"
import { HttpClient } from "effect/http"

import { RecommendationsService } from "../../src/generated/v1/services.ts"
import { defaultPolicy } from "../../src/layers/grpc/client/ChannelOptions.ts"
import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../src/layers/grpc/GrpcClient.ts"
import { type Environment, Installation } from "./Installation.ts"
import { scrape } from "./Scrape.ts"

/** Without retries and with long timeouts, so that each call is made once on a busy machine too. */
const patient = {
  ...defaultPolicy,
  retry: { ...defaultPolicy.retry, attemptTimeout: Duration.minutes(1), maxAttempts: 1 }
}

/** A module that writes the port of each listening server to stderr, since the log is not read here. */
const tellPorts = `data:text/javascript,${encodeURIComponent(`
import { subscribe } from "node:diagnostics_channel"
subscribe("tracing:net.server.listen:asyncEnd", ({ server }) => console.error("port", server.address().port))
`)}`

/** The admin port and the gRPC port of a process with {@link tellPorts}, in the order of listening. */
const portsOf = (stderr: Readable) =>
  Effect.callback<ReadonlyArray<number>>((resume) => {
    let text = ""
    stderr.on("data", (chunk) => {
      text += String(chunk)
      const ports = Array.from(text.matchAll(/^port (\d+)$/gm), ([, port]) => Number(port))
      if (ports.length === 2) resume(Effect.succeed(ports))
    })
    stderr.once("end", () => resume(Effect.die(new Error(`Recommendations ended: ${text}`))))
  })

/** Starts Recommendations with a given stdout and waits until it is ready. */
const begin = Effect.fnUntraced(function* (stdout: "pipe" | number, env: Environment = {}) {
  const { folder } = yield* Installation
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--import", tellPorts, `${folder}/dist/recommendations.js`], {
        env: { RECOMMENDATIONS_GRPC_PORT: "0", RECOMMENDATIONS_ADMIN_PORT: "0", ...env },
        stdio: ["ignore", stdout, "pipe"]
      })
    ),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const exited = new Promise<number | null>((resolve) => child.on("exit", (code) => resolve(code)))
  const [adminPort = 0, port] = yield* portsOf(child.stderr!)
  yield* HttpClient.get(`http://127.0.0.1:${adminPort}/readyz`).pipe(
    Effect.filterOrFail(({ status }) => status === 200),
    Effect.retry(Schedule.spaced("50 millis")),
    Effect.timeout("20 seconds")
  )
  const context = yield* Layer.build(NodeGrpcChannel.layer({ target: `localhost:${port}`, policy: patient }))
  const client = yield* Effect.provideContext(GrpcClient.make(RecommendationsService), context)
  /** Makes calls, each of which logs a line at Debug, and returns the number of answers. */
  const call = (count: number) =>
    Effect.forEach(
      Array.from({ length: count }, (_, index) => index),
      () => Effect.map(client.Recommend({ maxResults: 1 }), ({ books }) => books.length),
      { concurrency: 50 }
    ).pipe(Effect.map((lengths) => lengths.reduce((sum, length) => sum + length, 0)))
  const dropped = Effect.map(scrape(adminPort), (metrics) => metrics.total("log_dropped_lines_total"))
  return { call, child, dropped, exitCode: Effect.promise(() => exited) }
})

/** Reads the rest of the output. */
const reading = (stream: Readable) => {
  let text = ""
  stream.on("data", (chunk) => {
    text += String(chunk)
  })
  return () => text
}

const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>, check: (value: A) => boolean) =>
  Effect.flatMap(effect, (value) => (check(value) ? Effect.void : Effect.fail("not yet"))).pipe(
    Effect.retry(Schedule.spaced("20 millis")),
    Effect.timeout("20 seconds")
  )

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })(
  "the log output of a process",
  (it) => {
    it.effect.each(["json", "pretty"] as const)(
      "drops the oldest %s lines while it is not read, without failing calls, and reports them later",
      (format) =>
        Effect.gen(function* () {
          const { call, child, dropped, exitCode } = yield* begin("pipe", { LOG_LEVEL: "Debug", LOG_FORMAT: format })
          const calls = 12_000
          assert.strictEqual(yield* call(calls), calls)
          const count = yield* dropped
          assert.isAbove(count, 2000)
          const text = reading(child.stdout!)
          yield* eventually(Effect.sync(text), (text) => /\d+ log lines dropped: stdout/.test(text))
          // later lines are not dropped
          yield* call(1)
          const [, told] = /(\d+) log lines dropped/.exec(text()) ?? []
          assert.isAtLeast(Number(told), count)
          child.kill("SIGTERM")
          assert.strictEqual(yield* exitCode, 0)
          assert.include(text(), "gRPC server closed")
          // the lines queued in the process, in the pipe and in the pending write
          assert.isBelow(text().length, 2_000_000)
        }).pipe(Effect.scoped),
      { timeout: 60_000 }
    )

    it.effect("does not delay the exit if it is never read", () =>
      Effect.gen(function* () {
        const { call, child, exitCode } = yield* begin("pipe", { LOG_LEVEL: "Debug" })
        yield* call(5000)
        child.kill("SIGTERM")
        assert.strictEqual(yield* exitCode, 0)
      }).pipe(Effect.scoped)
    )

    it.effect.runIf(process.platform === "linux")("survives a reader that exits, and is read by the next one", () =>
      Effect.gen(function* () {
        const path = `${(yield* Installation).folder}/log`
        execFileSync("mkfifo", [path])
        const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
        const writer = openSync(path, constants.O_WRONLY)
        const { call, child, dropped, exitCode } = yield* begin(writer, { LOG_LEVEL: "Debug" })
        closeSync(writer)
        closeSync(reader)
        assert.strictEqual(yield* call(1000), 1000)
        yield* eventually(dropped, (count) => count > 0)
        const text = reading(createReadStream(path))
        yield* eventually(Effect.andThen(call(1), Effect.sync(text)), (text) => /\d+ log lines dropped/.test(text))
        child.kill("SIGTERM")
        assert.strictEqual(yield* exitCode, 0)
        yield* eventually(Effect.sync(text), (text) => text.includes("gRPC server closed"))
      }).pipe(Effect.scoped)
    )

    it.effect.runIf(process.platform === "linux")("does not fail calls on a full disk", () =>
      Effect.gen(function* () {
        const file = yield* Effect.acquireRelease(
          Effect.sync(() => openSync("/dev/full", "w")),
          (fd) => Effect.sync(() => closeSync(fd))
        )
        const { call, child, dropped, exitCode } = yield* begin(file, { LOG_LEVEL: "Debug" })
        assert.strictEqual(yield* call(1000), 1000)
        yield* eventually(dropped, (count) => count > 0)
        child.kill("SIGTERM")
        assert.strictEqual(yield* exitCode, 0)
      }).pipe(Effect.scoped)
    )
  }
)
