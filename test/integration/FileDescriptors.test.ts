/**
 * Both services report that they are out of file descriptors, since libuv closes new connections then without an error event.
 */
import { execFileSync } from "node:child_process"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"

import * as RawHttp from "../layers/http/RawHttp.ts"
import { Installation } from "./Installation.ts"
import { scrape } from "./Scrape.ts"

const environments = { recommendations: {}, marketplace: { RECOMMENDATIONS_TARGET: "127.0.0.1:1" } }

layer(Layer.mergeAll(Installation.layer, NodeHttpClient.layerUndici, NodeServices.layer), {
  excludeTestServices: true
})("out of file descriptors", (it) => {
  it.effect.each(["recommendations", "marketplace"] as const)(
    "%s logs an error and counts it",
    (service) =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const { adminPort, pid, written } = yield* start(service, environments[service])
        // a scraper with a connection from before
        const { send, until } = yield* RawHttp.open(adminPort)
        send(RawHttp.get("/livez"))
        yield* until("ok")
        // prlimit (util-linux) sets the limit below the number of open files
        const allow = (files: number) =>
          Effect.sync(() => execFileSync("prlimit", [`--pid=${pid}`, `--nofile=${files}:`]))
        yield* allow(8)
        yield* written("Out of file descriptors (EMFILE)")
        send(RawHttp.get("/metrics"))
        yield* until("HTTP/1.1 ", 2)
        send(RawHttp.get("/readyz"))
        assert.deepStrictEqual(RawHttp.statuses(yield* until("HTTP/1.1 ", 3)), [200, 200, 200])
        yield* allow(1024)
        const metrics = yield* scrape(adminPort)
        assert.isAtLeast(metrics.total("process_fds_exhausted_total"), 1)
        assert.isAbove(metrics.value("process_resident_memory_bytes"), 10_000_000)
      }),
    20_000
  )

  it.effect.each(["recommendations", "marketplace"] as const)(
    "%s keeps descriptors for probes and metrics when clients open as many connections as they can",
    (service) =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const { adminPort, port } = yield* start(service, environments[service], { openFiles: 110 })
        yield* Effect.all(
          Array.from({ length: 200 }, (_, index) => RawHttp.open(port, `127.0.1.${1 + (index % 100)}`)),
          { concurrency: 10 }
        )
        for (const path of ["/livez", "/readyz", "/metrics"]) {
          const { closed, send } = yield* RawHttp.open(adminPort)
          send(RawHttp.get(path, ["Connection: close"]))
          assert.deepStrictEqual(RawHttp.statuses(yield* closed), [200], path)
        }
        assert.strictEqual((yield* scrape(adminPort)).total("process_fds_exhausted_total"), 0)
      }),
    20_000
  )
})
