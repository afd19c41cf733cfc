/**
 * The HTTP edge of the built bundles under hostile clients.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Schedule } from "effect"
import { HttpClient } from "effect/http"

import * as RawHttp from "../layers/http/RawHttp.ts"
import { Installation } from "./Installation.ts"
import * as Scrape from "./Scrape.ts"

/** Without a backend: pages have no books, which does not matter here. */
const alone = { RECOMMENDATIONS_TARGET: "127.0.0.1:1" }

const offer = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"]

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })(
  "the HTTP edge of Marketplace",
  (it) => {
    it.effect("closes connections with an upgrade offer at shutdown like others", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const { adminPort, exitCode, port, signal } = yield* start("marketplace", alone)
        const peers = yield* Effect.all([RawHttp.open(port), RawHttp.open(adminPort)])
        for (const [at, path] of ["/favicon.ico", "/livez"].entries()) {
          const { send, until } = peers[at]!
          send(RawHttp.get(path, offer))
          assert.include((yield* until("\r\n\r\n")).toLowerCase(), "connection: keep-alive")
          send(RawHttp.get(path))
          assert.deepStrictEqual(RawHttp.statuses(yield* until("HTTP/1.1 200", 2)), [200, 200])
        }
        yield* signal("SIGTERM")
        const [elapsed, code] = yield* Effect.timed(exitCode)
        assert.strictEqual(code, 0)
        // less than DRAIN_TIMEOUT, and without waiting for the clients to close them
        assert.isBelow(Duration.toMillis(elapsed), 10_000)
      })
    )

    it.effect("serves probes and readers while clients open more connections than there are file descriptors", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const { adminPort, output, port, written } = yield* start(
          "marketplace",
          { ...alone, MARKETPLACE_MAX_CONNECTIONS: "100" },
          { openFiles: 120 }
        )
        yield* written("HTTP connection limit lowered from 100 to 60: the process may open 120 files")
        const held = yield* Effect.all(
          Array.from({ length: 150 }, () => RawHttp.open(port, "127.0.0.2")),
          { concurrency: 10 }
        )
        for (const { send } of held) send(RawHttp.get("/favicon.ico", offer))
        const page = yield* HttpClient.get(`http://127.0.0.1:${port}/`)
        assert.strictEqual(page.status, 200)
        const { total } = yield* Scrape.scrape(adminPort)
        assert.isAtLeast(total("http_server_connections_refused_total", { reason: "connection limit" }), 90)
        assert.isAtMost(total("http_server_open_connections", { server: "http" }), 60)
        assert.include(yield* output, '"reason":"connection limit"')
      })
    )

    it.effect("survives clients that send requests and never read", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const { adminPort, port } = yield* start("marketplace", alone)
        const greedy = yield* Effect.all(Array.from({ length: 20 }, () => RawHttp.open(port, "127.0.0.2")))
        for (const { send, socket } of greedy) {
          socket.pause()
          send(RawHttp.get().repeat(2_000))
        }
        const page = yield* HttpClient.get(`http://127.0.0.1:${port}/`)
        assert.strictEqual(page.status, 200)
        yield* Scrape.scrape(adminPort).pipe(
          Effect.flatMap(({ total }) =>
            total("http_server_connections_refused_total", { reason: "pipelining" }) >= 20
              ? Effect.void
              : Effect.fail("not yet")
          ),
          Effect.retry(Schedule.spaced("50 millis")),
          Effect.timeout("20 seconds")
        )
        const { value } = yield* Scrape.scrape(adminPort)
        assert.isBelow(value("process_resident_memory_bytes"), 300 * 2 ** 20)
      })
    )

    it.effect("refuses invalid limits with a message", () =>
      Effect.gen(function* () {
        const { run } = yield* Installation
        for (const [variable, value, expected] of [
          ["MARKETPLACE_TRUSTED_PROXIES", "10.0.0.0/8,proxy", "comma-separated networks such as 10.0.0.0/8"],
          ["MARKETPLACE_MAX_CONNECTIONS", "0", "a whole number from 1"],
          ["MARKETPLACE_MAX_CONNECTIONS_PER_ADDRESS", "0", "a whole number from 1"],
          ["MARKETPLACE_KEEP_ALIVE_TIMEOUT", "0s", "a duration from 1s"],
          ["MARKETPLACE_HSTS_MAX_AGE", "a year", "a whole number of seconds"]
        ] as const) {
          const { exitCode, stderr } = yield* run("marketplace", { ...alone, [variable]: value })
          assert.strictEqual(exitCode, 1)
          assert.match(stderr, new RegExp(`^${variable}="[^"]*": expected ${expected}[^\\n]*\\n$`))
        }
      })
    )
  }
)
