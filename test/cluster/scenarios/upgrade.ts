/**
 * Two versions of Recommendations on one database.
 */
import { Effect } from "effect"

import { NotDone, type Scenario, underLoad } from "../Scenario.ts"
import { settled, Shop } from "../Shop.ts"

export const upgrade: Scenario = {
  name: "upgrade",
  description: "Rolls back to the previous version of both services, and forward again",
  run: Effect.gen(function* () {
    const { apply, previous } = yield* Shop
    if (previous === undefined) return yield* new NotDone({ reason: "it needs --previous" })
    yield* underLoad("to the previous version", Effect.andThen(apply({ images: previous }), settled))
    yield* underLoad("to the current version", Effect.andThen(apply({}), settled))
  })
}
