/**
 * The predecessor beside this release on one schema, as in a rollout and in a rollback. Until there is a release with a database, the
 * predecessor is this release without its newest migration.
 */
import { writeSync } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"

import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { type Plugin, rolldown } from "rolldown"

import configuration from "../../rolldown.config.ts"
import { migrations } from "../../src/recommendations/database/migrations.ts"
import { Installation } from "../integration/Installation.ts"
import * as Load from "../integration/Load.ts"
import * as PageLoad from "../integration/PageLoad.ts"
import { Postgres } from "../storage/Postgres.ts"
import * as ReaderLoad from "./ReaderLoad.ts"

const newest = Math.max(...migrations.map(({ id }) => id))

/** Drops the newest migration from the list. */
const withoutNewest: Plugin = {
  name: "without-newest-migration",
  transform: (code, id) => {
    if (!id.endsWith("/recommendations/database/migrations.ts")) return undefined
    const shortened = code.replace(new RegExp(String.raw`,\s*\{\s*id: ${newest},[^}]*\}`), "")
    assert.notStrictEqual(shortened, code)
    return shortened
  }
}

/** Writes a bundle of Recommendations over that of an installation. */
const bundleInto = (folder: string, ...plugins: ReadonlyArray<Plugin>) =>
  Effect.promise(async () => {
    const options = configuration.find(({ input }) => typeof input === "object" && "recommendations" in input)!
    const cwd = fileURLToPath(new URL("../..", import.meta.url))
    const bundle = await rolldown({ ...options, cwd, plugins: [...plugins, options.plugins] })
    await bundle.write({ ...options.output, dir: path.join(folder, "dist") })
    await bundle.close()
  })

layer(Installation.layer, { excludeTestServices: true })("the predecessor", (it) => {
  it.effect("and this release serve one database without a failed page or record", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { folder, start } = yield* Installation
        const server = yield* Effect.acquireRelease(
          Effect.promise(() => Postgres.start()),
          (server) => Effect.promise(() => server.remove())
        )
        const environment = { DATABASE_URL: server.url("postgres") }
        yield* bundleInto(folder, withoutNewest)
        const old = yield* start("recommendations", environment)
        const shop = yield* start("marketplace", { RECOMMENDATIONS_TARGET: `127.0.0.1:${old.port}` })
        const pages = yield* PageLoad.start({
          rate: 50,
          retry: "reused",
          backends: () => [{ host: "127.0.0.1", port: shop.port }]
        })
        yield* pages.answered(50)

        // this release migrates the schema while the predecessor serves
        yield* bundleInto(folder)
        const current = yield* start("recommendations", environment)
        const recorded = [
          yield* ReaderLoad.start({ rate: 50, target: `127.0.0.1:${old.port}` }),
          yield* ReaderLoad.start({ rate: 50, target: `127.0.0.1:${current.port}` })
        ]
        yield* pages.answered(100)

        // a rollback starts the predecessor on the new schema
        yield* bundleInto(folder, withoutNewest)
        const rolledBack = yield* start("recommendations", environment)
        recorded.push(yield* ReaderLoad.start({ rate: 50, target: `127.0.0.1:${rolledBack.port}` }))
        yield* pages.answered(100)

        const samples = [yield* pages.finish, ...(yield* Effect.forEach(recorded, ({ finish }) => finish))]
        writeSync(1, `predecessor: ${samples.map(({ length }) => length).join(", ")} pages and records\n`)
        assert.deepStrictEqual(samples.flatMap(Load.reasons), [])
        assert.isTrue(samples.every(({ length }) => length > 50))
      })
    )
  )
})
