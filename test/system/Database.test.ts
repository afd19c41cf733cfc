/**
 * The built services with real databases, which are killed under load.
 */
import { writeSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { DatabaseSync } from "node:sqlite"

import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import { SqlClient } from "effect/sql"

import { RecommendationsService } from "../../src/generated/v1/services.ts"
import * as NodeGrpcChannel from "../../src/layers/grpc/client/NodeGrpcChannel.ts"
import * as GrpcClient from "../../src/layers/grpc/GrpcClient.ts"
import { Installation, type Running } from "../integration/Installation.ts"
import * as Load from "../integration/Load.ts"
import { manyBooks } from "../integration/ManyBooks.ts"
import * as PageLoad from "../integration/PageLoad.ts"
import { Postgres } from "../storage/Postgres.ts"
import { connect, postgresUrl } from "../storage/StorageTest.ts"
import * as ReaderLoad from "./ReaderLoad.ts"

const say = (line: string) => Effect.sync(() => writeSync(1, `${line}\n`))

const postgres = Effect.acquireRelease(
  Effect.promise(() => Postgres.start()),
  (server) => Effect.promise(() => server.remove())
)

/** Starts replicas of Recommendations on one database, and a Marketplace that calls them. */
const startShop = Effect.fnUntraced(function* (replicas: number, environment: { readonly [variable: string]: string }) {
  const { start } = yield* Installation
  const recommendations = yield* Effect.all(
    Array.from({ length: replicas }, () => start("recommendations", environment)),
    { concurrency: "unbounded" }
  )
  const target = `ipv4:${recommendations.map(({ port }) => `127.0.0.1:${port}`).join(",")}`
  const marketplace = yield* start("marketplace", { RECOMMENDATIONS_TARGET: target })
  const pages = (rate: number) =>
    PageLoad.start({ rate, retry: "reused", backends: () => [{ host: "127.0.0.1", port: marketplace.port }] })
  return { recommendations, marketplace, target, pages }
})

const feedbackIds = (server: Postgres) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql<{ readonly feedback_id: string }>`SELECT feedback_id FROM feedback`, (rows) =>
      rows.map(({ feedback_id }) => feedback_id)
    )
  ).pipe(Effect.provide(connect(postgresUrl(server.port, "postgres"), [])), Effect.scoped)

/** Every acknowledged record is stored, and none twice. */
const assertStored = (acknowledged: ReadonlySet<string>, stored: ReadonlyArray<string>) => {
  const all = new Set(stored)
  assert.strictEqual(all.size, stored.length)
  assert.deepStrictEqual(
    [...acknowledged].filter((id) => !all.has(id)),
    []
  )
}

/** The resident memory of processes, in MiB. */
const residentMemory = (processes: ReadonlyArray<Running>) =>
  Effect.promise(() =>
    Promise.all(
      processes.map(async ({ pid }) =>
        Math.round(Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024)
      )
    )
  )

const kills = 10

layer(Installation.layer, { excludeTestServices: true })("a database under load", (it) => {
  it.effect("has every acknowledged record after SIGKILL of the service: SQLite", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { folder, start } = yield* Installation
        const acknowledged = new Set<string>()
        for (let kill = 0; kill < kills; kill++) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const service = yield* start("recommendations", { DATABASE_URL: "sqlite:killed/books.db" })
              const load = yield* ReaderLoad.start({ rate: 1_000, target: `127.0.0.1:${service.port}` })
              yield* load.until(() => load.acknowledged.size >= 300)
              yield* service.signal("SIGKILL")
              yield* load.finish
              for (const id of load.acknowledged) acknowledged.add(id)
            })
          )
        }
        const database = new DatabaseSync(`${folder}/killed/books.db`)
        const rows = database.prepare("SELECT feedback_id FROM feedback").all()
        database.close()
        yield* say(`SQLite, ${kills} kills: ${acknowledged.size} acknowledged, ${rows.length} stored`)
        assertStored(
          acknowledged,
          rows.map(({ feedback_id }) => String(feedback_id))
        )
      })
    )
  )

  it.effect("has every acknowledged record after SIGKILL of the service: PostgreSQL", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { start } = yield* Installation
        const server = yield* postgres
        const acknowledged = new Set<string>()
        for (let kill = 0; kill < kills; kill++) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const service = yield* start("recommendations", { DATABASE_URL: server.url("postgres") })
              const load = yield* ReaderLoad.start({ rate: 1_000, target: `127.0.0.1:${service.port}` })
              yield* load.until(() => load.acknowledged.size >= 300)
              yield* service.signal("SIGKILL")
              yield* load.finish
              for (const id of load.acknowledged) acknowledged.add(id)
            })
          )
        }
        const stored = yield* feedbackIds(server)
        yield* say(`PostgreSQL, ${kills} kills: ${acknowledged.size} acknowledged, ${stored.length} stored`)
        assertStored(acknowledged, stored)
      })
    )
  )

  it.effect("loses no acknowledged record and no page when PostgreSQL is killed, and is whole again by itself", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const server = yield* postgres
        const { pages, recommendations, target } = yield* startShop(2, { DATABASE_URL: server.url("postgres") })
        const pageLoad = yield* pages(100)
        const readers = yield* ReaderLoad.start({ rate: 100, target })
        yield* readers.until(() => readers.acknowledged.size >= 300)
        for (let kill = 0; kill < 3; kill++) {
          yield* Effect.promise(() => server.kill())
          // the forms of readers fail, and pages go on
          yield* readers.until(({ failure }) => failure !== undefined)
          yield* readers.answered(300)
          yield* Effect.promise(() => server.restart())
          const known = readers.acknowledged.size
          yield* readers.until(() => readers.acknowledged.size >= known + 100)
        }
        const failed = Load.summarize(yield* pageLoad.finish)
        const recorded = Load.summarize(yield* readers.finish)
        yield* say(
          `PostgreSQL killed 3 times: ${failed.failed.length} of ${failed.count} pages failed, ` +
            `${readers.acknowledged.size} of ${recorded.count} records acknowledged`
        )
        assert.deepStrictEqual(Load.reasons(failed.failed), [])
        assertStored(readers.acknowledged, yield* feedbackIds(server))
        for (const { exitCode, signal } of recommendations) {
          yield* signal("SIGTERM")
          assert.strictEqual(yield* exitCode, 0)
        }
      })
    )
  )

  it.effect("starts alive and not ready without PostgreSQL, and serves as soon as it is there", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { begin } = yield* Installation
        const server = yield* postgres
        yield* Effect.promise(() => server.stop())
        const service = yield* begin("recommendations", { DATABASE_URL: server.url("postgres") })
        yield* service.written("Database unavailable, trying again")
        const status = (path: string) =>
          Effect.promise(async () => (await fetch(`http://127.0.0.1:${service.adminPort}${path}`)).status)
        assert.strictEqual(yield* status("/livez"), 200)
        assert.strictEqual(yield* status("/readyz"), 503)
        yield* Effect.promise(() => server.restart())
        yield* service.written("gRPC server listening")
        yield* Effect.repeat(status("/readyz"), {
          until: (code) => code === 200,
          schedule: Schedule.spaced("20 millis")
        })
        const output = yield* service.output
        assert.strictEqual(output.split("Database unavailable").length, 2)
        assert.notInclude(output, encodeURIComponent("p@ss"))
        assert.notInclude(output, "p@ss:word")
      })
    )
  )

  it.effect("is a catalogue that is replaced ten times under load on three replicas, and stays after a restart", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { folder, importFile, start, write } = yield* Installation
        const server = yield* postgres
        const environment = {
          DATABASE_URL: server.url("postgres"),
          CATALOG_FILE: "even.csv",
          MODEL_REFRESH: "500 millis"
        }
        // the titles of a catalogue name it
        const catalogue = (edition: string) => manyBooks(10_000).replaceAll("Book", `Book (${edition})`)
        yield* write("even.csv", catalogue("even"))
        yield* write("odd.csv", catalogue("odd"))
        const { pages, recommendations } = yield* startShop(3, environment)
        const pageLoad = yield* pages(100)

        const clients = yield* Effect.forEach(recommendations, ({ port }) =>
          Effect.flatMap(Layer.build(NodeGrpcChannel.layer({ target: `127.0.0.1:${port}` })), (channel) =>
            Effect.provideContext(GrpcClient.make(RecommendationsService), channel)
          )
        )
        /** The catalogue of a response. */
        const edition = (client: (typeof clients)[number]) =>
          Effect.map(client.Recommend({ maxResults: 100 }), ({ books }) => {
            const editions = new Set(books.map(({ title }) => (title.includes("(odd)") ? "odd" : "even")))
            assert.strictEqual(editions.size, 1)
            return [...editions][0]!
          })
        let before: ReadonlyArray<number> = []
        for (let round = 1; round <= 10; round++) {
          const next = round % 2 === 1 ? "odd" : "even"
          yield* importFile(`${folder}/${next}.csv`, environment)
          yield* Effect.forEach(
            clients,
            (client) => Effect.repeat(edition(client), { until: (found) => found === next }),
            {
              concurrency: "unbounded"
            }
          )
          if (round === 2) before = yield* residentMemory(recommendations)
        }
        const after = yield* residentMemory(recommendations)
        const summary = Load.summarize(yield* pageLoad.finish)
        yield* say(
          `catalogue replaced 10 times: ${summary.failed.length} of ${summary.count} pages failed, ` +
            `memory ${before.join(", ")} MiB after two, ${after.join(", ")} MiB after ten`
        )
        assert.deepStrictEqual(Load.reasons(summary.failed), [])
        for (const [index, size] of after.entries()) assert.isBelow(size, before[index]! * 1.5)

        // the file of the settings was imported before, so that it does not come back
        yield* importFile(`${folder}/odd.csv`, environment)
        yield* recommendations[0]!.signal("SIGKILL")
        const restarted = yield* start("recommendations", environment)
        const [client] = yield* Effect.forEach([restarted], ({ port }) =>
          Effect.flatMap(Layer.build(NodeGrpcChannel.layer({ target: `127.0.0.1:${port}` })), (channel) =>
            Effect.provideContext(GrpcClient.make(RecommendationsService), channel)
          )
        )
        assert.strictEqual(yield* edition(client!), "odd")
      })
    )
  )
})
