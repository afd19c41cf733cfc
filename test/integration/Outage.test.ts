/**
 * Pages while Recommendations is down, hangs, or restarts.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer, Schedule } from "effect"
import { HttpClient } from "effect/http"

import { Installation } from "./Installation.ts"
import * as TcpPort from "./TcpPort.ts"

const get = Effect.fnUntraced(function* (port: number, path = "/") {
  const [elapsed, response] = yield* Effect.timed(HttpClient.get(`http://localhost:${port}${path}`))
  return { elapsed: Duration.toMillis(elapsed), status: response.status, body: yield* response.text }
})

/** Asserts that a page without recommendations is complete, and shows no details of the failure. */
const assertApology = ({ body, status }: { readonly status: number; readonly body: string }) => {
  assert.strictEqual(status, 200)
  assert.include(body, "<title>Online Books For You</title>")
  assert.include(body, ">Mystery books you may like</h1>")
  assert.match(body, /We can(’|'|&#39;)t fetch suggestions just now/)
  assert.notMatch(body, /<li[ >]|UNAVAILABLE|DEADLINE|GrpcError|ECONNREFUSED|\bat .*\.(js|ts)/i)
}

layer(Layer.merge(Installation.layer, NodeHttpClient.layerUndici), { excludeTestServices: true })(
  "a page without Recommendations",
  (it) => {
    it.effect("is served when nothing listens at the target", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const { port } = yield* start("marketplace", { RECOMMENDATIONS_TARGET: "127.0.0.1:1" })
        assertApology(yield* get(port))
        assert.strictEqual((yield* get(port, "/?category=horror")).status, 200)
        assert.strictEqual((yield* get(port, "/?category=cooking")).status, 404)
      })
    )

    it.effect("is served within its budget while Recommendations hangs, and has books when it continues", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const recommendations = yield* start("recommendations")
        const marketplace = yield* start("marketplace", {
          RECOMMENDATIONS_TARGET: `localhost:${recommendations.port}`,
          MARKETPLACE_PAGE_BUDGET: "500 millis"
        })
        yield* untilBooks(marketplace.port)
        yield* recommendations.signal("SIGSTOP")
        const page = yield* get(marketplace.port)
        yield* recommendations.signal("SIGCONT")
        assertApology(page)
        // the page uses its budget, and not much more
        assert.isAtLeast(page.elapsed, 450)
        assert.isBelow(page.elapsed, 5_000)
        yield* untilBooks(marketplace.port)
      })
    )

    it.effect("is served within its budget when the target accepts connections and sends nothing", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const port = yield* TcpPort.accept()
        const marketplace = yield* start("marketplace", {
          RECOMMENDATIONS_TARGET: `127.0.0.1:${port}`,
          MARKETPLACE_PAGE_BUDGET: "500 millis"
        })
        const page = yield* get(marketplace.port)
        assertApology(page)
        assert.isBelow(page.elapsed, 5_000)
      })
    )

    it.effect("has books again when Recommendations has restarted", () =>
      Effect.gen(function* () {
        const { start } = yield* Installation
        const first = yield* start("recommendations")
        const marketplace = yield* start("marketplace", { RECOMMENDATIONS_TARGET: `localhost:${first.port}` })
        yield* untilBooks(marketplace.port)
        yield* first.signal("SIGKILL")
        yield* Effect.exit(first.exitCode)
        assertApology(yield* get(marketplace.port))
        yield* start("recommendations", { RECOMMENDATIONS_GRPC_PORT: String(first.port) })
        yield* untilBooks(marketplace.port)
      })
    )
  }
)

/** Requests the page until it has books. */
const untilBooks = (port: number) =>
  get(port).pipe(
    Effect.flatMap(({ body }) => (body.includes("<li>") ? Effect.void : Effect.fail("no books yet"))),
    Effect.retry(Schedule.spaced("50 millis"))
  )
