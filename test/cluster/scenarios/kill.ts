/**
 * Pods vanish, without and with a grace period.
 */
import { Effect } from "effect"

import { type Scenario, underLoad } from "../Scenario.ts"
import { isReady, namespaces, pods, run, type Service, services, settled } from "../Shop.ts"

/**
 * The share of pages that may fail when Marketplaces are deleted without a grace period: until kube-proxy has removed such a pod,
 * connections to it are refused or reset.
 */
const lossOfKilledMarketplace = 0.005

const onePod = (service: Service) => Effect.map(pods(service), (all) => all.find(isReady)?.metadata.name ?? "")

const forceDelete = (service: Service) =>
  Effect.flatMap(onePod(service), (pod) => run(["delete", "pod", pod, "--force", "--grace-period=0"]))

/** Uses the Eviction API, as `kubectl drain` does. */
export const evict = (name: string) =>
  run(["create", "--raw", `/api/v1/namespaces/${namespaces.shop}/pods/${name}/eviction`, "--filename", "-"], {
    apiVersion: "policy/v1",
    kind: "Eviction",
    metadata: {
      name,
      namespace: namespaces.shop
    }
  })

export const kill: Scenario = {
  name: "kill",
  description: "Deletes a pod of each Deployment without a grace period, and evicts one of each",
  run: Effect.gen(function* () {
    yield* underLoad("a Recommendations force-deleted", Effect.andThen(forceDelete("recommendations"), settled))
    yield* underLoad("a Marketplace force-deleted", Effect.andThen(forceDelete("marketplace"), settled), {
      allowedLoss: lossOfKilledMarketplace
    })
    for (const service of services) {
      yield* underLoad(`a ${service} pod evicted`, Effect.andThen(Effect.flatMap(onePod(service), evict), settled))
    }
  })
}
