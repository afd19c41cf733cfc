/**
 * A changed ConfigMap is rolled out.
 */
import { Effect } from "effect"

import { type Scenario, underLoad } from "../Scenario.ts"
import { settled, Shop } from "../Shop.ts"

const changed = {
  recommendations: ["RECOMMENDATIONS_MAX_CONNECTION_AGE=2 minutes"],
  marketplace: ["MARKETPLACE_PAGE_BUDGET=900 millis"]
}

export const settings: Scenario = {
  name: "settings",
  description: "Rolls out other settings of both services",
  run: Effect.gen(function* () {
    const { apply } = yield* Shop
    yield* underLoad("settings changed", Effect.andThen(apply({ settings: changed }), settled))
    yield* underLoad("settings changed back", Effect.andThen(apply({}), settled))
  })
}
