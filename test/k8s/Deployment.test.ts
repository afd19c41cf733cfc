/**
 * The Deployment of the local cluster makes the decisions of Kubernetes' controller. Its pods are fakes that only become ready and end.
 */
import { assert, it } from "@effect/vitest"
import { Clock, Duration, Effect, Option } from "effect"
import { TestClock } from "effect/testing"

import * as Deployment from "../../k8s/cluster/Deployment.ts"
import type { Workload } from "../../k8s/cluster/Manifests.ts"
import type { Pod } from "../../k8s/cluster/Pod.ts"

interface FakePod extends Pod {
  readonly become: (isReady: boolean) => Effect.Effect<void>
}

/** A Deployment of fake pods, which are ready one second after their start and take 5 seconds to terminate. */
const makeFake = Effect.fnUntraced(function* (options: Partial<Workload> = {}) {
  const workload: Workload = {
    name: "fake",
    namespace: "test",
    labels: {},
    replicas: 3,
    maxSurge: () => 1,
    maxUnavailable: () => 0,
    minReady: Duration.seconds(35),
    progressDeadline: Duration.seconds(300),
    grace: Duration.seconds(40),
    program: "fake",
    environment: [],
    mounts: [],
    ports: {},
    startup: undefined,
    readiness: undefined,
    liveness: undefined,
    ...options
  }
  const scope = yield* Effect.scope
  const started: Array<FakePod> = []
  /** The number of ready pods at each change. */
  const seen: Array<number> = []

  const startPod = Effect.fnUntraced(function* (revision: number, onChange: Effect.Effect<void>) {
    let since = Option.none<number>()
    const become = Effect.fnUntraced(function* (isReady: boolean) {
      since = isReady ? Option.some(yield* Clock.currentTimeMillis) : Option.none()
      yield* onChange
    })
    const pod: FakePod = {
      name: `fake-${revision}-${started.length}`,
      address: "",
      revision,
      become,
      readySince: Effect.sync(() => since),
      crash: Effect.void,
      terminate: Effect.gen(function* () {
        since = Option.none()
        yield* Effect.sleep("5 seconds")
        return { isOrderly: true, took: Duration.seconds(5) }
      }),
      complaints: Effect.succeed([])
    }
    started.push(pod)
    yield* become(true).pipe(Effect.delay("1 second"), Effect.forkIn(scope))
    return pod
  })
  const deployment = yield* Deployment.make(workload, startPod, (ready) =>
    Effect.sync(() => void seen.push(ready.length))
  )
  return { deployment, seen, started }
})

/** Advances the clock second by second, so that fibers that wait repeatedly run at the right times. */
const pass = (seconds: number) => Effect.replicateEffect(TestClock.adjust("1 second"), seconds, { discard: true })

/** Advances the clock and asserts that the Deployment has settled. */
const settle = Effect.fnUntraced(function* ({ settled }: Deployment.Deployment, seconds: number) {
  const waiting = yield* Effect.forkChild(settled)
  yield* pass(seconds)
  assert.strictEqual(waiting.pollUnsafe()?._tag, "Success")
})

it.effect("replaces one pod at a time, after the new one has been ready for minReadySeconds", () =>
  Effect.gen(function* () {
    const { deployment, seen, started } = yield* makeFake()
    yield* settle(deployment, 40)
    assert.lengthOf(started, 3)
    seen.length = 0

    yield* deployment.restart
    // one new pod, and no other change for 36 seconds
    assert.lengthOf(started, 4)
    yield* pass(35)
    assert.lengthOf(started, 4)
    assert.lengthOf((yield* deployment.status).pods, 4)
    yield* pass(2)
    assert.lengthOf(started, 5)
    yield* settle(deployment, 120)
    assert.lengthOf(started, 6)
    const { pods } = yield* deployment.status
    assert.deepStrictEqual(
      pods.map(({ revision }) => revision),
      [2, 2, 2]
    )
    // never fewer ready pods than replicas
    for (const ready of seen) assert.isAtLeast(ready, 3)
    assert.lengthOf(yield* deployment.endings, 3)
  })
)

it.effect("respects maxUnavailable and maxSurge", () =>
  Effect.gen(function* () {
    const { deployment, seen, started } = yield* makeFake({
      replicas: 4,
      maxSurge: () => 0,
      maxUnavailable: () => 2
    })
    yield* settle(deployment, 40)
    seen.length = 0
    yield* deployment.restart
    yield* pass(0)
    // two pods terminate at the same time, and two new ones start
    assert.lengthOf(started, 6)
    yield* settle(deployment, 90)
    assert.lengthOf(started, 8)
    for (const ready of seen) assert.isAtLeast(ready, 2)
  })
)

it.effect("pauses a rollout while a new pod is not ready, and continues when it is", () =>
  Effect.gen(function* () {
    const { deployment, started } = yield* makeFake()
    yield* settle(deployment, 40)
    yield* deployment.restart
    yield* pass(10)
    yield* started[3]!.become(false)
    yield* pass(120)
    assert.lengthOf(started, 4)
    assert.lengthOf((yield* deployment.status).pods, 4)
    assert.strictEqual((yield* deployment.status).available, 3)

    const waiting = yield* Effect.forkChild(Effect.flip(deployment.settled))
    yield* pass(299)
    assert.isUndefined(waiting.pollUnsafe())
    yield* pass(3)
    const error = waiting.pollUnsafe()
    assert.strictEqual(
      error?._tag === "Success" ? error.value.message : undefined,
      "Deployment fake: nothing has changed for progressDeadlineSeconds, with 4 pods, " +
        "1 of the newest version and 3 available, of 3"
    )
    yield* started[3]!.become(true)
    yield* settle(deployment, 180)
    assert.lengthOf(started, 6)
  })
)

it.effect("removes surplus pods: those that are not ready first, then the newest", () =>
  Effect.gen(function* () {
    const { deployment, started } = yield* makeFake()
    yield* settle(deployment, 40)
    yield* deployment.scale(5)
    yield* settle(deployment, 40)
    assert.lengthOf(started, 5)

    yield* started[0]!.become(false)
    yield* deployment.scale(3)
    yield* settle(deployment, 40)
    const { pods } = yield* deployment.status
    assert.notInclude(pods, started[0])
    assert.includeMembers([...pods], started.slice(1, 3))
  })
)
