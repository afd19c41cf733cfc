/**
 * Pods vanish, without and with a grace period.
 */
import { Effect } from "effect"

import * as PageLoad from "../PageLoad.ts"
import { type Scenario, underLoad } from "../Scenario.ts"
import { isReady, namespaces, pods, run, type Service, services, settled } from "../Shop.ts"

/**
 * The share of pages that may fail when Marketplaces are deleted without a grace period: until kube-proxy has removed such a pod,
 * connections to it are refused or reset.
 */
const lossOfKilledMarketplace = 0.005

/** Readers that request one page after another, so that calls are in flight when their server vanishes. */
const busy: PageLoad.Options = { connections: 8 }

const onePod = (service: Service) => Effect.map(pods(service), (all) => all.find(isReady)?.metadata.name ?? "")

const forceDelete = (names: ReadonlyArray<string>) => run(["delete", "pod", ...names, "--force", "--grace-period=0"])

const allButOne = (service: Service) =>
  Effect.map(pods(service), (all) => all.slice(1).map(({ metadata }) => metadata.name))

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
  description: "Deletes a Marketplace, and all Recommendations but one, without a grace period, and evicts one of each",
  run: Effect.gen(function* () {
    yield* underLoad(
      "all Recommendations but one force-deleted",
      Effect.andThen(Effect.flatMap(allButOne("recommendations"), forceDelete), settled),
      { load: busy }
    )
    yield* underLoad(
      "a Marketplace force-deleted",
      Effect.andThen(
        Effect.flatMap(onePod("marketplace"), (name) => forceDelete([name])),
        settled
      ),
      { allowedLoss: lossOfKilledMarketplace }
    )
    for (const service of services) {
      yield* underLoad(`a ${service} pod evicted`, Effect.andThen(Effect.flatMap(onePod(service), evict), settled))
    }
  })
}
