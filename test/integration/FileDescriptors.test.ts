/**
 * Both services say that no file descriptor is left. Without it nobody would know: libuv closes new connections without an error.
 */
import { execFileSync } from "node:child_process"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"

import { Installation } from "./Installation.ts"
import { scrape } from "./Scrape.ts"

const environments = { recommendations: {}, marketplace: { RECOMMENDATIONS_TARGET: "127.0.0.1:1" } }

layer(Layer.mergeAll(Installation.layer, NodeHttpClient.layerUndici, NodeServices.layer), {
  excludeTestServices: true
})("without file descriptors", (it) => {
  it.effect.each(["recommendations", "marketplace"] as const)(
    "%s tells the log and the metrics",
    (service) =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const { adminPort, pid, written } = yield* start(service, environments[service])
        // the limit is below what the process has open; util-linux is on every Linux
        const allow = (files: number) =>
          Effect.sync(() => execFileSync("prlimit", [`--pid=${pid}`, `--nofile=${files}:`]))
        yield* allow(8)
        yield* written("No file descriptor is left (EMFILE)")
        // Node itself opens a file to read the resident memory
        yield* allow(1024)
        const metrics = yield* scrape(adminPort)
        assert.isAtLeast(metrics.total("process_fds_exhausted_total"), 1)
      }),
    20_000
  )
})
