/**
 * Replicas are added and removed.
 */
import { Effect } from "effect"

import { NotDone, type Scenario, underLoad } from "../Scenario.ts"
import { replicas, run, services, settled, Shop } from "../Shop.ts"

const added = 2

const scaleBy = (count: number) =>
  Effect.andThen(
    Effect.forEach(services, (service) =>
      Effect.flatMap(replicas(service), (before) =>
        run(["scale", "deployment", service, `--replicas=${before + count}`])
      )
    ),
    settled
  )

export const scale: Scenario = {
  name: "scale",
  description: `Adds ${added} replicas to each Deployment, and removes them`,
  run: Effect.gen(function* () {
    if ((yield* Shop).hasAutoscalers) {
      return yield* new NotDone({ reason: "autoscalers own the number of replicas: see autoscale" })
    }
    yield* underLoad(`${added} replicas added to each`, scaleBy(added))
    yield* underLoad(`${added} replicas removed from each`, scaleBy(-added))
  })
}
