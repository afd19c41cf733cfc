/**
 * Versions that do not start: the rollout stops at its first pod, and `kubectl rollout undo` ends it.
 */
import { Effect } from "effect"

import * as Kubectl from "../Kubectl.ts"
import { check, type Scenario, underLoad } from "../Scenario.ts"
import { type Changes, isReady, pods, replicas, run, type Service, services, settled, Shop } from "../Shop.ts"

/** How long the rollout must not get any further, in the format of kubectl. */
const observation = "20s"

const failures = new Set(["CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff"])

/** Applies a bad version of one service, and waits until its first pod has failed. */
const rollOut = Effect.fnUntraced(function* (service: Service, changes: Changes) {
  const { apply } = yield* Shop
  const count = yield* replicas(service)
  yield* apply(changes)
  const hasFailed = ({ status }: (typeof all)[number]) =>
    status.containerStatuses?.some(({ state }) => failures.has(state.waiting?.reason ?? "")) === true
  let all = yield* pods(service)
  yield* Kubectl.until(
    `a failed pod of ${service}`,
    Effect.map(pods(service), (found) => {
      all = found
      return found.some(hasFailed)
    })
  )
  const progressed = yield* Effect.isSuccess(
    run(["rollout", "status", `deployment/${service}`, `--timeout=${observation}`])
  )
  yield* check(!progressed, `${service}: the rollout of a bad version ended`)
  const after = yield* pods(service)
  const ready = after.filter(isReady).length
  yield* check(ready === count, `${service}: ${ready} of ${count} replicas ready beside the bad version`)
  yield* check(after.length === count + 1, `${service}: the rollout did not stop at its first pod`)
  yield* run(["rollout", "undo", `deployment/${service}`])
  yield* settled
})

const scenario = (name: string, description: string, changesOf: (service: Service) => Changes): Scenario => ({
  name,
  description,
  run: Effect.gen(function* () {
    for (const service of services) {
      yield* underLoad(`${service}: rolled out and undone`, rollOut(service, changesOf(service)))
      yield* (yield* Shop).apply({})
      yield* settled
    }
  })
})

const badSettings: Record<Service, string> = {
  recommendations: "RECOMMENDATIONS_MAX_CONNECTIONS=many",
  marketplace: "MARKETPLACE_PAGE_BUDGET=soon"
}

export const badSetting = scenario(
  "bad-setting",
  "Rolls out a setting with an invalid value, and undoes it",
  (service) => ({ settings: { [service]: [badSettings[service]] } })
)

export const badImage = scenario("bad-image", "Rolls out an image that does not exist, and undoes it", (service) => ({
  images: { [service]: "localhost/online-books/none:none" }
}))
