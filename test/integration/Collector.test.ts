/**
 * A collector that is down, slow or refuses requests does not affect calls, and is logged once.
 */
import { readFile } from "node:fs/promises"

import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Client, credentials } from "@grpc/grpc-js"
import { Effect, type Scope } from "effect"
import { Layer } from "effect"

import { Installation } from "./Installation.ts"
import * as OtlpReceiver from "./OtlpReceiver.ts"
import { scrape } from "./Scrape.ts"

const path = "/onlinebooks.recommendations.v1.RecommendationsService/Recommend"

/** Makes calls on one connection, sixteen at a time, and returns the latency of each in milliseconds. */
const makeCaller = (
  port: number
): Effect.Effect<(count: number) => Effect.Effect<ReadonlyArray<number>>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Client(`127.0.0.1:${port}`, credentials.createInsecure())),
      (client) => Effect.sync(() => client.close())
    ),
    (client) => (count) =>
      Effect.forEach(
        Array.from({ length: count }),
        () =>
          Effect.callback<number>((resume) => {
            const start = performance.now()
            const same = (bytes: Buffer) => bytes
            client.makeUnaryRequest(path, same, same, Buffer.alloc(0), (error) =>
              resume(error === null ? Effect.succeed(performance.now() - start) : Effect.die(error))
            )
          }),
        { concurrency: 16 }
      )
  )

/** The resident memory of a process in MiB. */
const resident = (pid: number) =>
  Effect.promise(async () => Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024)

const median = (values: ReadonlyArray<number>) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

const warning = "; dropping telemetry until it recovers"

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true, timeout: "2 minutes" })(
  "the OTLP collector",
  (it) => {
    it.effect("does not affect calls when it is down, slow or refuses, and is logged once", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const dead = yield* OtlpReceiver.make()
        const collectors = {
          works: yield* OtlpReceiver.make("accepts"),
          "is dead": dead,
          "is slow": yield* OtlpReceiver.make("hangs"),
          refuses: yield* OtlpReceiver.make("refuses")
        }
        const subjects = yield* Effect.forEach(
          Object.entries(collectors),
          Effect.fnUntraced(function* ([what, collector]) {
            const running = yield* start("recommendations", {
              OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
              OTEL_EXPORTER_OTLP_TIMEOUT: "300",
              // a span for every call, and frequent exports
              OTEL_TRACES_SAMPLER: "always_on",
              OTEL_BSP_SCHEDULE_DELAY: "50",
              OTEL_METRIC_EXPORT_INTERVAL: "50"
            })
            const call = yield* makeCaller(running.port)
            return { what, running, call, medians: new Array<number>(), slowest: 0, memory: 0 }
          })
        )
        // works at first
        yield* subjects[1]!.call(100)
        yield* dead.until(() => dead.spans.length > 0)
        yield* dead.kill

        const rounds = 20
        for (let round = 0; round < rounds; round++) {
          for (const subject of subjects) {
            const took = yield* subject.call(500)
            subject.medians.push(median(took))
            if (round > 2) subject.slowest = Math.max(subject.slowest, ...took)
            // after warm-up
            if (round === rounds / 2) subject.memory = yield* resident(subject.running.pid)
          }
        }
        const [works] = subjects
        for (const { medians, memory, running, slowest, what } of subjects) {
          const least = Math.min(...medians)
          assert.isBelow(least, 1.5 * Math.min(...works!.medians) + 1, `${what}: the median in milliseconds`)
          assert.isBelow(slowest, 1_000, `${what}: the slowest call in milliseconds`)
          assert.isBelow((yield* resident(running.pid)) - memory, 60, `${what}: the memory in MiB`)
        }
        for (const { running, what } of subjects.slice(1)) {
          yield* running.written(warning)
          const scraped = yield* scrape(running.adminPort)
          assert.isAbove(scraped.total("otlp_export_failures_total"), 0, what)
          assert.isAbove(scraped.total("otlp_export_dropped_batches_total"), 0, what)
        }
        for (const { running, what } of subjects) {
          yield* running.signal("SIGTERM")
          assert.strictEqual(yield* running.exitCode, 0)
          const warnings = (yield* running.output).split(warning).length - 1
          assert.strictEqual(warnings, what === "works" ? 0 : 1, what)
        }
        assert.strictEqual(collectors.works.spans.filter(({ kind }) => kind === 2).length, rounds * 500)
      })
    )

    it.effect("receives telemetry again after an outage, and the recovery is logged", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const collector = yield* OtlpReceiver.make("refuses")
        const running = yield* start("recommendations", {
          OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
          OTEL_TRACES_SAMPLER: "always_on",
          OTEL_BSP_SCHEDULE_DELAY: "50",
          OTEL_METRIC_EXPORT_INTERVAL: "50"
        })
        const call = yield* makeCaller(running.port)
        yield* call(10)
        yield* running.written(warning)
        collector.behave("accepts")
        // spans are exported only after calls
        yield* call(10)
        yield* running.written(" has recovered")
        const before = collector.spans.length
        yield* call(10)
        yield* collector.until(() => collector.spans.length >= before + 10)
      })
    )
  }
)
