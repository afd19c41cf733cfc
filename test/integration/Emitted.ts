/**
 * Scrapes both services in a scenario that emits every metric: TLS with a CRL, a collector that refuses, pages with and without books,
 * a locked database, a PostgreSQL that is not there, and a malformed request.
 */
import { DatabaseSync } from "node:sqlite"

import { Effect } from "effect"
import { HttpClient } from "effect/http"

import { revoke } from "../../scripts/certificates.ts"
import * as RawHttp from "../layers/http/RawHttp.ts"
import * as CertificateFolder from "./CertificateFolder.ts"
import { Installation } from "./Installation.ts"
import * as OtlpReceiver from "./OtlpReceiver.ts"
import * as RawCall from "./RawCall.ts"
import { scrape } from "./Scrape.ts"

/** CreateReader, with a request_id. */
const createReader = {
  path: "/onlinebooks.recommendations.v1.ReaderService/CreateReader",
  body: Buffer.concat([Buffer.from([0, 0, 0, 0, 38, 10, 36]), Buffer.from("8f7c5c1e-7a0f-4c37-9f3c-0f4a2f1d9b11")])
}

/** The metrics of the services. */
export const emitted = Effect.gen(function* () {
  const { begin, folder, start, write } = yield* Installation
  const collector = yield* OtlpReceiver.make("refuses")
  const { authority, environment } = yield* CertificateFolder.makeBoth("emitted")
  yield* write("emitted.crl", yield* Effect.promise(() => revoke(authority, [])))
  const telemetry = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_BSP_SCHEDULE_DELAY: "50",
    OTEL_METRIC_EXPORT_INTERVAL: "50"
  }
  const recommendations = yield* start("recommendations", {
    ...environment.recommendations,
    RECOMMENDATIONS_TLS_CLIENT_CRL_FILE: "emitted.crl",
    ...telemetry
  })
  const marketplace = yield* start("marketplace", {
    ...environment.marketplace,
    ...telemetry,
    MARKETPLACE_TLS_SERVER_NAME: CertificateFolder.serverName,
    RECOMMENDATIONS_TARGET: `127.0.0.1:${recommendations.port}`,
    MARKETPLACE_PAGE_BUDGET: "10 seconds"
  })
  // plaintext, which is refused and counted
  const stranger = yield* start("marketplace", { RECOMMENDATIONS_TARGET: `127.0.0.1:${recommendations.port}` })
  for (const { port } of [marketplace, stranger]) {
    for (const path of ["/", "/?category=horror", "/?category=cooking", "/nothing"]) {
      const response = yield* HttpClient.get(`http://127.0.0.1:${port}${path}`)
      yield* response.text
    }
  }
  const locked = yield* start("recommendations", { DATABASE_URL: "sqlite:emitted.db" })
  const lock = yield* Effect.acquireRelease(
    Effect.sync(() => new DatabaseSync(`${folder}/emitted.db`)),
    (database) => Effect.sync(() => database.close())
  )
  lock.exec("BEGIN IMMEDIATE")
  yield* RawCall.send(`127.0.0.1:${locked.port}`, createReader)
  // waits for its PostgreSQL
  const waiting = yield* begin("recommendations", { DATABASE_URL: "postgres://shop@127.0.0.1:1/shop" })
  yield* waiting.written("Database unavailable, trying again")
  const garbage = yield* RawHttp.open(marketplace.port)
  garbage.send("no request\r\n\r\n")
  yield* garbage.closed
  yield* recommendations.written("; dropping telemetry until it recovers")
  return {
    recommendations: yield* scrape(recommendations.adminPort),
    marketplace: yield* scrape(marketplace.adminPort),
    /** A Marketplace without Recommendations, whose pages have no books. */
    stranger: yield* scrape(stranger.adminPort),
    locked: yield* scrape(locked.adminPort),
    waiting: yield* scrape(waiting.adminPort)
  }
}).pipe(Effect.scoped, Effect.orDie)
