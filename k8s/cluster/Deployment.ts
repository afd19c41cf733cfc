/**
 * A Deployment of the cluster in little: as many pods as it should have, and new ones in place of old ones by its own numbers.
 * It decides as Kubernetes' deployment controller does (its pkg/controller/deployment/rolling.go), but for a scaling in the
 * middle of a rollout, which Kubernetes shares out between the versions.
 */
import { Clock, Duration, Effect, Option, Queue, Schema, Semaphore, Stream, SubscriptionRef } from "effect"

import type { Workload } from "./Manifests.ts"
import type { Ending, Pod } from "./Pod.ts"

/** A Deployment that does not come to what it should be. */
export class ProgressError extends Schema.TaggedError<ProgressError>()("ProgressError", {
  deployment: Schema.String,
  status: Schema.String
}) {
  override get message(): string {
    return `Deployment ${this.deployment}: nothing has changed for progressDeadlineSeconds, with ${this.status}`
  }
}

/** How far a Deployment is. */
export interface Status {
  /** The pods that have not been told to leave, the oldest first. */
  readonly pods: ReadonlyArray<Pod>
  /** How many of them are of the newest version. */
  readonly updated: number
  /** How many of them have been ready for minReadySeconds. */
  readonly available: number
  /** How many have been told to leave and have not left yet. */
  readonly terminating: number
  readonly replicas: number
}

export interface Deployment {
  readonly workload: Workload
  readonly status: Effect.Effect<Status>
  /** Of those that have left, in the order in which they did. */
  readonly endings: Effect.Effect<ReadonlyArray<Ending>>
  /** Waits until it has all its replicas, of the newest version and available, and no others are left. */
  readonly settled: Effect.Effect<void, ProgressError>
  /** Changes how many replicas there are, as `kubectl scale` does. */
  readonly scale: (replicas: number) => Effect.Effect<void>
  /** Has every pod replaced, as `kubectl rollout restart` does. */
  readonly restart: Effect.Effect<void>
  /** The warnings and errors that its pods have written, those that have left included. */
  readonly complaints: Effect.Effect<ReadonlyArray<string>>
}

/** A pod, and since when it is ready. */
interface Observed {
  readonly pod: Pod
  readonly since: Option.Option<number>
}

/**
 * Runs a Deployment until the scope closes. `startPod` starts a pod of a version; it is given what to run when the pod becomes
 * ready, or is so no more. `onChange` is told of the pods that are ready after each change.
 */
export const make = Effect.fnUntraced(function* <R>(
  workload: Workload,
  startPod: (revision: number, onChange: Effect.Effect<void>) => Effect.Effect<Pod, never, R>,
  onChange: (ready: ReadonlyArray<Pod>) => Effect.Effect<void>
) {
  const { maxSurge, maxUnavailable, minReady, progressDeadline } = workload
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

  const observe = Effect.suspend(() =>
    Effect.forEach(pods, (pod) => Effect.map(pod.readySince, (since): Observed => ({ pod, since })))
  )
  const isAvailable = ({ since }: Observed, now: number) =>
    Option.exists(since, (since) => now - since >= Duration.toMillis(minReady))
  const isUpdated = ({ pod }: Observed) => pod.revision === revision
  /** Those that are not ready count as the newest. */
  const readyAt = ({ since }: Observed) => Option.getOrElse(since, () => Infinity)

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

  const remove = Effect.fnUntraced(function* ({ pod }: Observed) {
    pods = pods.filter((other) => other !== pod)
    terminating++
    yield* pod.terminate.pipe(
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
    const observed = yield* observe
    const updated = observed.filter(isUpdated)

    // more of the new, as far as the surge goes
    const missing = Math.min(replicas - updated.length, replicas + maxSurge(replicas) - observed.length)
    if (missing > 0) {
      yield* Effect.replicateEffect(create, missing, { discard: true })
      return true
    }
    // fewer of the new when there are too many: those that are not ready before those that are, the newest first
    if (updated.length > replicas) {
      const [first] = updated.toSorted((a, b) => readyAt(b) - readyAt(a))
      yield* remove(first!)
      return true
    }
    // fewer of the old, as far as enough are available: those that are not before those that are
    const [first] = observed
      .filter((pod) => !isUpdated(pod))
      .toSorted((a, b) => Number(isAvailable(a, now)) - Number(isAvailable(b, now)))
    const unavailable = updated.filter((pod) => !isAvailable(pod, now)).length
    if (first === undefined || observed.length - unavailable <= replicas - maxUnavailable(replicas)) return false
    yield* remove(first)
    return true
  })

  const look = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const observed = yield* observe
    return {
      ready: observed.filter(({ since }) => Option.isSome(since)).map(({ pod }) => pod),
      status: {
        pods,
        updated: observed.filter(isUpdated).length,
        available: observed.filter((pod) => isAvailable(pod, now)).length,
        terminating,
        replicas
      } satisfies Status as Status
    }
  })

  const status = yield* SubscriptionRef.make((yield* look).status)
  const reconcile = Effect.gen(function* () {
    while (yield* step);
    const { ready, status: current } = yield* look
    yield* onChange(ready)
    yield* SubscriptionRef.set(status, current)
  }).pipe(Semaphore.makeUnsafe(1).withPermits(1))

  yield* Queue.take(changes).pipe(Effect.andThen(reconcile), Effect.forever, Effect.forkScoped)
  yield* changed

  const isSettled = ({ available, pods, replicas, terminating, updated }: Status) =>
    updated === replicas && available === replicas && pods.length === replicas && terminating === 0

  // what has just changed is decided upon before it is looked at
  const settled = Stream.concat(Stream.fromEffectDrain(reconcile), SubscriptionRef.changes(status)).pipe(
    Stream.timeout(progressDeadline),
    Stream.filter(isSettled),
    Stream.runHead,
    Effect.flatMap(
      Option.match({
        onSome: () => Effect.void,
        onNone: () => {
          const { available, pods, replicas, updated } = status.value
          return Effect.fail(
            new ProgressError({
              deployment: workload.name,
              status: `${pods.length} pods, ${updated} of the newest version and ${available} available, of ${replicas}`
            })
          )
        }
      })
    )
  )

  /** What is decided before is not what is waited for. */
  const change = (decide: () => void) => Effect.andThen(Effect.sync(decide), reconcile)

  return {
    workload,
    status: SubscriptionRef.get(status),
    endings: Effect.sync(() => [...endings]),
    settled,
    scale: (count) => change(() => (replicas = count)),
    restart: change(() => revision++),
    complaints: Effect.suspend(() =>
      Effect.map(
        Effect.forEach(everyone, ({ complaints }) => complaints),
        (complaints) => complaints.flat()
      )
    )
  } satisfies Deployment as Deployment
})
