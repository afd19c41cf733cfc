/**
 * The autoscalers add replicas under load, and remove them.
 */
import { Effect } from "effect"

import * as Kubectl from "../Kubectl.ts"
import * as PageLoad from "../PageLoad.ts"
import { NotDone, type Scenario, underLoad } from "../Scenario.ts"
import { isReady, namespaces, type Pod, pods, replicas, services, settled, Shop } from "../Shop.ts"

/** Readers that keep the replicas busy, in addition to the usual ones. */
const connections = 32

/** A target that two processors can exceed, in percent of the requested CPU. */
const target = 50

/** Without the wait of some minutes before replicas are removed. */
const atOnce = { stabilizationWindowSeconds: 0, policies: [{ type: "Percent", value: 100, periodSeconds: 15 }] }

const metrics = [
  { type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: target } } }
]

interface Autoscaler extends Kubectl.Resource {
  readonly spec: { readonly minReplicas: number; readonly scaleTargetRef: { readonly name: string } }
}

const autoscalers = Kubectl.list<Autoscaler>("horizontalpodautoscalers", "--namespace", namespaces.shop)

const total = Effect.map(Effect.forEach(services, replicas), (counts) => counts.reduce((sum, count) => sum + count, 0))

const isUnschedulable = ({ status }: Pod): boolean =>
  status.conditions?.some(({ status, type }) => type === "PodScheduled" && status === "False") === true

/** A small cluster has no room for all replicas. */
const placed = Effect.map(Effect.forEach(services, pods), (all) =>
  all.flat().every((pod) => isReady(pod) || isUnschedulable(pod))
)

export const autoscale: Scenario = {
  name: "autoscale",
  description: "Loads the shop until its autoscalers add replicas, and waits until they have removed them",
  run: Effect.gen(function* () {
    const { apply, hasAutoscalers } = yield* Shop
    if (!hasAutoscalers) return yield* new NotDone({ reason: "the manifests have no HorizontalPodAutoscaler" })
    if (!(yield* Effect.isSuccess(Kubectl.run(["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"])))) {
      return yield* new NotDone({ reason: "the cluster has no metrics-server" })
    }
    const change = (spec: object) =>
      apply({
        patches: [
          {
            target: { kind: "HorizontalPodAutoscaler" },
            patch: {
              apiVersion: "autoscaling/v2",
              kind: "HorizontalPodAutoscaler",
              metadata: { name: "any" },
              spec
            }
          }
        ]
      })
    const minimum = (yield* autoscalers).reduce((sum, { spec }) => sum + spec.minReplicas, 0)
    yield* change({ metrics })
    yield* underLoad(
      "scaled up",
      Effect.gen(function* () {
        const busy = yield* PageLoad.start({ name: "busy", connections })
        yield* Kubectl.until(
          "replicas added by an autoscaler",
          Effect.map(total, (count) => count > minimum)
        )
        yield* Kubectl.until("replicas ready, or without room on a node", placed)
        yield* busy.finish
      }).pipe(Effect.scoped)
    )
    yield* change({ metrics, behavior: { scaleDown: atOnce } })
    yield* underLoad(
      "scaled down",
      Effect.andThen(
        Kubectl.until(
          "replicas removed by the autoscalers",
          Effect.map(total, (count) => count === minimum)
        ),
        settled
      )
    )
  })
}
