import { Effect } from "effect"

import * as Kubectl from "../Kubectl.ts"
import { NotDone, type Scenario, underLoad } from "../Scenario.ts"
import * as Undo from "../Undo.ts"

/** How long the cluster has no name servers. */
const outage = "1 minute"

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
        yield* Effect.sleep(outage)
      }).pipe(Effect.scoped)
    )
  })
}
