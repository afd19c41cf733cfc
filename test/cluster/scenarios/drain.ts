import { Effect } from "effect"

import * as Kubectl from "../Kubectl.ts"
import { NotDone, type Scenario, underLoad } from "../Scenario.ts"
import { pods, services, settled } from "../Shop.ts"
import * as Undo from "../Undo.ts"
import { evict } from "./kill.ts"

export const drain: Scenario = {
  name: "drain",
  description: "Drains the node with most pods of the shop, of these pods alone",
  isDisruptive: true,
  run: Effect.gen(function* () {
    const nodes = yield* Kubectl.list<Kubectl.Resource & { readonly spec: { readonly unschedulable?: boolean } }>(
      "nodes"
    )
    const schedulable = nodes.filter(({ spec }) => spec.unschedulable !== true)
    if (schedulable.length < 2) return yield* new NotDone({ reason: "the cluster has one schedulable node" })
    const all = (yield* Effect.forEach(services, pods)).flat()
    const podsOf = (node: string) => all.filter(({ spec }) => spec.nodeName === node)
    const [node = ""] = schedulable
      .map(({ metadata }) => metadata.name)
      .toSorted((a, b) => podsOf(b).length - podsOf(a).length)
    yield* Undo.cordoned(node)
    yield* underLoad(
      `${podsOf(node).length} of ${all.length} pods evicted`,
      Effect.gen(function* () {
        for (const { metadata } of podsOf(node)) {
          // the disruption budget allows one at a time
          yield* evict(metadata.name)
          yield* settled
        }
      })
    )
  }).pipe(Effect.scoped)
}
