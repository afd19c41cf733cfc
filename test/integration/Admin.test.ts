/**
 * The probes while processes start, serve and drain.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import { HttpClient } from "effect/http"

import { Installation } from "./Installation.ts"
import { manyBooks } from "./ManyBooks.ts"
import * as RawCall from "./RawCall.ts"

/** The response to a probe, as "status body". */
const probe = (port: number, path: "/livez" | "/readyz" | "/other") =>
  Effect.gen(function* () {
    const response = yield* HttpClient.get(`http://localhost:${port}${path}`)
    return `${response.status} ${(yield* response.text).trim()}`
  })

const listCategories = "/onlinebooks.recommendations.v1.RecommendationsService/ListCategories"

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })(
  "the probes",
  (it) => {
    it.effect("of Recommendations are ready once the catalogue is loaded", () =>
      Effect.gen(function* () {
        const { begin, write } = yield* Installation
        yield* write("many.csv", manyBooks(300_000))
        const { adminPort, written } = yield* begin("recommendations", { CATALOG_FILE: "many.csv" })
        assert.strictEqual(yield* probe(adminPort, "/readyz"), "503 starting")
        assert.strictEqual(yield* probe(adminPort, "/livez"), "200 ok")
        yield* written("gRPC server listening on")
        yield* probe(adminPort, "/readyz").pipe(
          Effect.flatMap((answer) => (answer === "200 ok" ? Effect.void : Effect.fail(answer))),
          Effect.retry(Schedule.spaced("10 millis")),
          Effect.timeout("20 seconds")
        )
      })
    )

    it.effect("of Marketplace are ready without its backend", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const { adminPort } = yield* start("marketplace", { RECOMMENDATIONS_TARGET: "127.0.0.1:1" })
        assert.strictEqual(yield* probe(adminPort, "/livez"), "200 ok")
        assert.strictEqual(yield* probe(adminPort, "/readyz"), "200 ok")
        assert.strictEqual(yield* probe(adminPort, "/other"), "404 not found")
      })
    )

    it.effect("are not ready from the signal on, but live until everything else is closed", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const recommendations = yield* start("recommendations")
        const call = yield* RawCall.hold(recommendations.port, listCategories)
        yield* recommendations.signal("SIGTERM")
        yield* recommendations.written("SIGTERM received: draining")
        // the port of the service is closed while the call is in flight
        assert.strictEqual(yield* probe(recommendations.adminPort, "/readyz"), "503 draining")
        assert.strictEqual(yield* probe(recommendations.adminPort, "/livez"), "200 ok")
        assert.strictEqual(yield* call.finish, "0")
        assert.strictEqual(yield* recommendations.exitCode, 0)
      })
    )

    it.effect("are served on the configured address and port", () =>
      Effect.gen(function* () {
        const { run, start } = yield* Installation
        const { adminPort, output } = yield* start("marketplace", { MARKETPLACE_ADMIN_HOST: "127.0.0.2" })
        assert.include(yield* output, `Admin server listening on http://127.0.0.2:${adminPort}`)
        const { exitCode, stderr } = yield* run("marketplace", {
          MARKETPLACE_ADMIN_HOST: "127.0.0.2",
          MARKETPLACE_ADMIN_PORT: String(adminPort)
        })
        assert.strictEqual(exitCode, 1)
        assert.strictEqual(
          stderr,
          `MARKETPLACE_ADMIN_PORT=${adminPort}: expected a port that is free, but 127.0.0.2:${adminPort} is in use\n`
        )
      })
    )
  }
)
