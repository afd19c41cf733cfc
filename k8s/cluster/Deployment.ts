/**
 * A Deployment of the cluster in little: as many pods as it should have, and new ones in place of old ones by its own numbers.
 * It decides as Kubernetes' deployment controller does, in its pkg/controller/deployment/rolling.go.
 */
import { Clock, Duration, Effect, Queue, Semaphore, Stream, SubscriptionRef } from "effect"

import type { Workload } from "./Manifests.ts"
import type { Ending, Pod } from "./Pod.ts"

/** How far a Deployment is. */
export interface Status {
  /** The pods that have not been told to leave, the oldest first. */
  readonly pods: ReadonlyArray<Pod>
  /** Those of the newest version. */
  readonly updated: number
  /** Those that have been ready for minReadySeconds. */
  readonly available: number
  /** Those that have been told to leave and have not left yet. */
  readonly terminating: number
  readonly replicas: number
}

export interface Deployment {
  readonly workload: Workload
  readonly status: Effect.Effect<Status>
  /** Those that have left, in the order in which they did. */
  readonly endings: () => ReadonlyArray<Ending>
  /** Waits until it has all its replicas, of the newest version and available, and no others are left. */
  readonly settled: Effect.Effect<void>
  /** Changes how many replicas there are, as `kubectl scale` does. */
  readonly scale: (replicas: number) => Effect.Effect<void>
  /** Has every pod replaced, as `kubectl rollout restart` does. */
  readonly restart: Effect.Effect<void>
  /** The warnings and errors that its pods have written, those that have left included. */
  readonly complaints: () => ReadonlyArray<string>
}

/**
 * Runs a Deployment until the scope closes. `startPod` starts a pod of a version; it is given what to run when the pod becomes
 * ready, or is so no more. `onChange` is run after each such change.
 */
export const make = Effect.fnUntraced(function* <R>(
  workload: Workload,
  startPod: (revision: number, onChange: Effect.Effect<void>) => Effect.Effect<Pod, never, R>,
  onChange: (pods: ReadonlyArray<Pod>) => Effect.Effect<void>
) {
  const { minReady, maxSurge, maxUnavailable } = workload
  const scope = yield* Effect.scope
  const context = yield* Effect.context<R>()
  const changes = yield* Queue.sliding<void>(1)
  const changed = Effect.asVoid(Queue.offer(changes, undefined))
  const everyone: Array<Pod> = []
  const endings: Array<Ending> = []
  let pods: ReadonlyArray<Pod> = []
  let replicas = workload.replicas
  let revision = 1
  let terminating = 0

  const isAvailable = (pod: Pod, now: number) => {
    const since = pod.readySince()
    return since !== undefined && now - since >= Duration.toMillis(minReady)
  }

  const statusAt = (now: number): Status => ({
    pods,
    updated: pods.filter((pod) => pod.revision === revision).length,
    available: pods.filter((pod) => isAvailable(pod, now)).length,
    terminating,
    replicas
  })
  const status = yield* SubscriptionRef.make(statusAt(0))

  /** A pod is looked at again when it must have become available; timers may be a moment early. */
  const onReady = Effect.andThen(
    changed,
    Effect.andThen(Effect.sleep(Duration.sum(minReady, Duration.millis(10))), changed)
  ).pipe(Effect.forkIn(scope), Effect.asVoid)

  const create = Effect.gen(function* () {
    const pod = yield* Effect.provideContext(startPod(revision, onReady), context)
    everyone.push(pod)
    pods = [...pods, pod]
  })

  const remove = (pod: Pod) =>
    Effect.suspend(() => {
      pods = pods.filter((other) => other !== pod)
      terminating++
      return pod.terminate.pipe(
        Effect.andThen((ending) => {
          endings.push(ending)
          terminating--
          return changed
        }),
        Effect.forkIn(scope)
      )
    })

  /** Decides one thing, and tells whether there may be more to decide. */
  const step = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const updated = pods.filter((pod) => pod.revision === revision)

    // more of the new, as far as the surge goes
    const missing = Math.min(replicas - updated.length, replicas + maxSurge(replicas) - pods.length)
    if (missing > 0) {
      yield* Effect.replicateEffect(create, missing, { discard: true })
      return true
    }
    // fewer of the new when there are too many: those that are not ready before those that are, the newest first
    if (updated.length > replicas) {
      const [first] = updated.toSorted((a, b) => (b.readySince() ?? Infinity) - (a.readySince() ?? Infinity))
      yield* remove(first!)
      return true
    }
    // fewer of the old, as far as enough are available: those that are not before those that are
    const [first] = pods
      .filter((pod) => pod.revision !== revision)
      .toSorted((a, b) => Number(isAvailable(a, now)) - Number(isAvailable(b, now)))
    const unavailable = updated.filter((pod) => !isAvailable(pod, now)).length
    if (first === undefined || pods.length - unavailable <= replicas - maxUnavailable(replicas)) return false
    yield* remove(first)
    return true
  })

  const reconcile = Effect.gen(function* () {
    while (yield* step);
    yield* onChange(pods)
    yield* SubscriptionRef.set(status, statusAt(yield* Clock.currentTimeMillis))
  }).pipe(Semaphore.makeUnsafe(1).withPermits(1))

  yield* Queue.take(changes).pipe(Effect.andThen(reconcile), Effect.forever, Effect.forkScoped)
  yield* changed

  // what has just changed is decided upon before it is looked at
  const settled = Stream.concat(Stream.fromEffectDrain(reconcile), SubscriptionRef.changes(status)).pipe(
    Stream.filter(
      ({ available, pods, replicas, terminating, updated }) =>
        updated === replicas && available === replicas && pods.length === replicas && terminating === 0
    ),
    Stream.take(1),
    Stream.runDrain
  )
  /** What is decided before is not what is waited for. */
  const change = (decide: () => void) => Effect.andThen(Effect.sync(decide), reconcile)

  return {
    workload,
    status: SubscriptionRef.get(status),
    endings: () => endings,
    settled,
    scale: (count) => change(() => (replicas = count)),
    restart: change(() => revision++),
    complaints: () => everyone.flatMap((pod) => pod.complaints())
  } satisfies Deployment as Deployment
})
