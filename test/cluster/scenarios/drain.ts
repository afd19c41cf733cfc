/**
 * A node is emptied.
 */
import { Effect } from "effect"

import * as Kubectl from "../Kubectl.ts"
import { NotDone, type Scenario, underLoad } from "../Scenario.ts"
import { pods, services, settled } from "../Shop.ts"
import * as Undo from "../Undo.ts"
import { evict } from "./kill.ts"

interface Node extends Kubectl.Resource {
  readonly spec: { readonly taints?: ReadonlyArray<{ readonly effect: string }> }
  readonly status: { readonly conditions: ReadonlyArray<{ readonly type: string; readonly status: string }> }
}

export const drain: Scenario = {
  name: "drain",
  description: "Evicts the pods of the shop from the node that runs most of them",
  isDisruptive: true,
  run: Effect.gen(function* () {
    const nodes = yield* Kubectl.list<Node>("nodes")
    // a cordoned node has a taint too
    const schedulable = nodes.filter(
      ({ spec, status }) =>
        spec.taints?.some(({ effect }) => effect !== "PreferNoSchedule") !== true &&
        status.conditions.some(({ status, type }) => type === "Ready" && status === "True")
    )
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
