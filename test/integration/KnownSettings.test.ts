/**
 * docs/settings.md and src/settingNames.json list the settings that the services read.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem } from "effect"

import { document, files } from "../../scripts/settings.ts"
import { knownSettings } from "./KnownSettings.ts"

layer(NodeServices.layer, { excludeTestServices: true })("the settings", (it) => {
  it.effect("match docs/settings.md and src/settingNames.json; if not, run `npm run settings`", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      for (const { file, text } of files) assert.strictEqual(yield* fs.readFileString(file), yield* text)
    })
  )

  it.effect("have one row in docs/settings.md, in the chapter of their service or of both services", () =>
    Effect.gen(function* () {
      const chapters = (yield* document).split("\n## ").slice(1)
      const [both = [], recommendations = [], marketplace = []] = chapters.map((chapter) =>
        Array.from(chapter.matchAll(/^\| `(\w+)` \|/gm), ([, name = ""]) => name)
      )
      assert.deepStrictEqual(
        [...both, ...recommendations].toSorted(),
        [...(yield* knownSettings("recommendations"))].toSorted()
      )
      assert.deepStrictEqual(
        [...both, ...marketplace].toSorted(),
        [...(yield* knownSettings("marketplace"))].toSorted()
      )
    })
  )

  it.effect("differ between the services", () =>
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
