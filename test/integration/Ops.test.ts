/**
 * The services emit the metrics that the dashboard and the alert rules of ops/ query.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"

import { emitted } from "./Emitted.ts"
import { Installation } from "./Installation.ts"
import * as OpsNames from "./OpsNames.ts"

layer(Layer.mergeAll(Installation.layer, NodeHttpClient.layerUndici, NodeServices.layer), {
  excludeTestServices: true
})("the metrics in ops/", (it) => {
  it.effect("are emitted with the queried labels", () =>
    Effect.gen(function* () {
      const { recommendations, waiting, ...others } = yield* emitted
      const samples = Object.values({ recommendations, waiting, ...others }).flatMap(({ samples }) => samples)
      const missing: Array<string> = []
      for (const [name, labels] of yield* OpsNames.labelsOf) {
        const found = samples.filter((sample) => sample.name === name)
        if (found.length === 0) missing.push(name)
        for (const label of labels) {
          if (found.length > 0 && !found.some((sample) => label in sample.labels)) missing.push(`${name}{${label}}`)
        }
      }
      assert.isAbove((yield* OpsNames.labelsOf).size, 30)
      assert.deepStrictEqual(missing, [])
      // also before the database was reached for the first time
      assert.deepStrictEqual(
        [recommendations, waiting].map(({ total }) => total("database_available")),
        [1, 0]
      )
    })
  )
})
