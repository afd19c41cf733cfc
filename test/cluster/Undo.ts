/**
 * Changes outside of the namespaces of a run, which are undone at the end of a scope. What was there before is kept in an annotation of
 * the changed object, so that a later run can restore what a killed one has left.
 */
import { Console, Effect, Schedule } from "effect"

import * as Kubectl from "./Kubectl.ts"

const annotation = "online-books-rehearsal/before"

interface Deployment extends Kubectl.Resource {
  readonly spec: { readonly replicas: number }
}

/** The API server may be busy for a moment. */
const insist = <A, E, R>(undo: Effect.Effect<A, E, R>) =>
  Effect.orDie(Effect.retry(undo, { times: 5, schedule: Schedule.spaced("2 seconds") }))

const uncordon = (node: string) =>
  Effect.andThen(Kubectl.run(["uncordon", node]), Kubectl.run(["annotate", "node", node, `${annotation}-`]))

/** Makes a node unschedulable until the end of the scope. */
export const cordoned = (node: string) =>
  Console.log(`  Cordons node ${node}; to undo: kubectl uncordon ${node}`).pipe(
    Effect.andThen(
      Effect.acquireRelease(Kubectl.run(["annotate", "--overwrite", "node", node, `${annotation}=schedulable`]), () =>
        insist(uncordon(node))
      )
    ),
    Effect.andThen(Kubectl.run(["cordon", node]))
  )

const restart = Effect.fnUntraced(function* (namespace: string, name: string, replicas: string) {
  const which = ["deployment", name, "--namespace", namespace]
  yield* Kubectl.run(["scale", ...which, `--replicas=${replicas}`])
  yield* Kubectl.run(["rollout", "status", ...which, "--timeout=5m"])
  yield* Kubectl.run(["annotate", ...which, `${annotation}-`])
})

/** Scales a Deployment to nothing until the end of the scope. */
export const stopped = Effect.fnUntraced(function* (namespace: string, name: string) {
  const which = ["deployment", name, "--namespace", namespace]
  const { spec } = yield* Kubectl.get<Deployment>(...which)
  const replicas = String(spec.replicas)
  yield* Console.log(
    `  Stops ${name}; to undo: kubectl -n ${namespace} scale deployment ${name} --replicas=${replicas}`
  )
  yield* Effect.acquireRelease(Kubectl.run(["annotate", "--overwrite", ...which, `${annotation}=${replicas}`]), () =>
    insist(restart(namespace, name, replicas))
  )
  yield* Kubectl.run(["scale", ...which, "--replicas=0"])
})

/** Restores whatever an earlier run has left. */
export const restore = Effect.gen(function* () {
  for (const { metadata } of yield* Kubectl.list("nodes")) {
    if (metadata.annotations?.[annotation] === undefined) continue
    yield* Console.log(`Uncordoning node ${metadata.name}, which an earlier rehearsal has cordoned`)
    yield* uncordon(metadata.name)
  }
  for (const { metadata } of yield* Kubectl.list("deployments", "--namespace", "kube-system")) {
    const replicas = metadata.annotations?.[annotation]
    if (replicas === undefined) continue
    yield* Console.log(`Starting ${metadata.name} in kube-system, which an earlier rehearsal has stopped`)
    yield* restart("kube-system", metadata.name, replicas)
  }
})
