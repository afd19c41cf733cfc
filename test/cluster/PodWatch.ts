/**
 * Counts the restarts and exit codes of the shop's containers. A deleted pod takes its exit code with it, so the pods are watched.
 */
import { Context, Effect, Layer, Schedule, Stream } from "effect"

import * as Kubectl from "./Kubectl.ts"
import { namespaces } from "./Shop.ts"

export interface Counts {
  readonly restarts: number
  /** How often containers have ended, by exit code. */
  readonly exits: Readonly<Record<string, number>>
}

const container = ".status.containerStatuses[0]"

/** A line for each change of a pod: its id, and the restarts and exit codes of its container. */
const template =
  `{.metadata.uid} {${container}.restartCount} now={${container}.state.terminated.exitCode} ` +
  `last={${container}.lastState.terminated.exitCode}{"\\n"}`

interface Seen {
  readonly restarts: number
  readonly isTerminated: boolean
}

export class PodWatch extends Context.Service<PodWatch, { readonly counts: Effect.Effect<Counts> }>()(
  "onlinebooks/test/cluster/PodWatch"
) {
  static readonly layer = Layer.effect(
    PodWatch,
    Effect.gen(function* () {
      const kubectl = yield* Kubectl.Kubectl
      const pods = new Map<string, Seen>()
      const exits: Record<string, number> = {}
      let restarts = 0

      const onLine = (line: string) => {
        const [, id = "", count = "", now = "", last = ""] = /^(\S+) (\d+) now=(\d*) last=(\d*)$/.exec(line) ?? []
        if (id === "") return
        const before = pods.get(id) ?? { restarts: 0, isTerminated: false }
        const added = Number(count) - before.restarts
        if (added > 0) {
          restarts += added
          // of several restarts between two lines, only the last exit code is known
          if (!before.isTerminated) exits[last] = (exits[last] ?? 0) + 1
        }
        const isTerminated = now !== ""
        if (isTerminated && (!before.isTerminated || added > 0)) exits[now] = (exits[now] ?? 0) + 1
        pods.set(id, { restarts: Number(count), isTerminated })
      }

      yield* kubectl
        .lines(["get", "pods", "--namespace", namespaces.shop, "--watch", "--output", `jsonpath=${template}`])
        .pipe(
          Stream.runForEach((line) => Effect.sync(() => onLine(line))),
          Effect.ignore,
          // the API server ends a watch now and then
          Effect.repeat(Schedule.spaced("1 second")),
          Effect.forkScoped
        )
      return { counts: Effect.sync(() => ({ restarts, exits: { ...exits } })) }
    })
  )
}

/** What was counted between two times. */
export const difference = (before: Counts, after: Counts): Counts => ({
  restarts: after.restarts - before.restarts,
  exits: Object.fromEntries(
    Object.entries(after.exits)
      .map(([code, count]) => [code, count - (before.exits[code] ?? 0)] as const)
      .filter(([, count]) => count > 0)
  )
})
