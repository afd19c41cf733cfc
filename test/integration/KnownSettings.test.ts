/**
 * The settings that the README lists are those that the services read.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem } from "effect"

import { knownSettings } from "./KnownSettings.ts"

const readme = fileURLToPath(new URL("../../README.md", import.meta.url))

/** The variables of the README's tables: all that are named in a first column. */
const documented = Effect.gen(function* () {
  const text = yield* (yield* FileSystem.FileSystem).readFileString(readme)
  const [, settings = ""] = /\n## Settings\n([^]*?)\n## /.exec(text) ?? []
  const cells = [...settings.matchAll(/^\| (`[^|]+`) \|/gm)].map(([, cell = ""]) => cell)
  return cells.flatMap((cell) => [...cell.matchAll(/`([A-Z\d_]+)`/g)].map(([, name = ""]) => name))
})

layer(NodeServices.layer, { excludeTestServices: true })("the settings", (it) => {
  it.effect("that the README lists are those that the services read, each once", () =>
    Effect.gen(function* () {
      const read = new Set([...(yield* knownSettings("recommendations")), ...(yield* knownSettings("marketplace"))])
      assert.isAbove(read.size, 50)
      assert.deepStrictEqual((yield* documented).toSorted(), [...read].toSorted())
    })
  )

  it.effect("of one service are not all those of the other", () =>
    Effect.gen(function* () {
      const recommendations = yield* knownSettings("recommendations")
      const marketplace = yield* knownSettings("marketplace")
      assert.isTrue(recommendations.has("CATALOG_FILE") && !marketplace.has("CATALOG_FILE"))
      assert.isTrue(marketplace.has("RECOMMENDATIONS_TARGET") && !recommendations.has("RECOMMENDATIONS_TARGET"))
      for (const both of ["DRAIN_TIMEOUT", "LOG_LEVEL", "OTEL_SERVICE_NAME", "RECOMMENDATIONS_GRPC_PORT"]) {
        assert.isTrue(recommendations.has(both) && marketplace.has(both), both)
      }
      const prefixed = (names: Iterable<string>, prefix: string) => [...names].filter((name) => name.startsWith(prefix))
      assert.deepStrictEqual(prefixed(recommendations, "MARKETPLACE_"), [])
      assert.deepStrictEqual(prefixed(marketplace, "RECOMMENDATIONS_").toSorted(), [
        "RECOMMENDATIONS_GRPC_PORT",
        "RECOMMENDATIONS_HOST",
        "RECOMMENDATIONS_TARGET"
      ])
    })
  )
})
