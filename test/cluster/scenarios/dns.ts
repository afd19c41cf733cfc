/**
 * The cluster has no name servers for a while.
 */
import { Effect } from "effect"

import * as Kubectl from "../Kubectl.ts"
import { NotDone, type Scenario, underLoad } from "../Scenario.ts"
import { isReady, type Pod } from "../Shop.ts"
import * as Undo from "../Undo.ts"

/** How long the cluster has no name servers. */
const outage = "1 minute"

const running = Effect.map(
  Kubectl.list<Pod>("pods", "--namespace", "kube-system", "--selector", "k8s-app=kube-dns"),
  (pods) => pods.filter(isReady).length
)

export const dns: Scenario = {
  name: "dns",
  description: "Scales the name servers of the cluster to nothing for a minute",
  isDisruptive: true,
  run: Effect.gen(function* () {
    const [servers] = yield* Kubectl.list("deployments", "--namespace", "kube-system", "--selector", "k8s-app=kube-dns")
    if (servers === undefined) return yield* new NotDone({ reason: "kube-system has no Deployment k8s-app=kube-dns" })
    const { name } = servers.metadata
    yield* underLoad(
      "without name servers",
      Effect.gen(function* () {
        yield* Undo.stopped("kube-system", name)
        yield* Kubectl.until(
          "no name servers",
          Effect.map(running, (count) => count === 0)
        )
        yield* Effect.sleep(outage)
        if ((yield* running) > 0) return yield* new NotDone({ reason: "the cluster starts its name servers again" })
      }).pipe(Effect.scoped)
    )
  })
}
