/**
 * An open-loop load: a constant number of requests a second, whether or not earlier ones have completed, so that a hanging service
 * does not reduce its own load.
 */
import { Deferred, Effect, type Scope } from "effect"

/** The result of one request. */
export interface Sample {
  /** When it was sent, in milliseconds since the load began. */
  readonly at: number
  /** Its latency in milliseconds. */
  readonly took: number
  /** The reason if it failed. */
  readonly failure?: string | undefined
  /** The replica of Recommendations that responded, if it is known. */
  readonly replica?: string | undefined
}

export type Outcome = Pick<Sample, "failure" | "replica">

export interface Load {
  /** Milliseconds since the load began. */
  readonly elapsed: Effect.Effect<number>
  /** The completed requests so far, in the order of their completion. */
  readonly samples: Effect.Effect<ReadonlyArray<Sample>>
  /** Waits until `count` more requests have completed. */
  readonly answered: (count: number) => Effect.Effect<void>
  /** Waits for a request that completes from now on and matches. */
  readonly until: (predicate: (sample: Sample) => boolean) => Effect.Effect<void>
  /** Stops sending, waits for the requests in flight, and returns all results. */
  readonly finish: Effect.Effect<ReadonlyArray<Sample>>
  /** The maximum delay of a request against its schedule, in milliseconds. A large one means that the load generator was starved. */
  readonly late: Effect.Effect<number>
}

/** Sends until {@link Load.finish}, or until the scope closes. `ask` sends a request and calls `done` when it has completed. */
export const start = Effect.fnUntraced(function* (
  rate: number,
  ask: (done: (outcome: Outcome) => void) => void
): Effect.fn.Return<Load, never, Scope.Scope> {
  const samples: Array<Sample> = []
  const waiting = new Set<(sample: Sample) => void>()
  const idle = yield* Deferred.make<void>()
  const began = performance.now()
  let sent = 0
  let late = 0
  let isFinished = false

  const checkIdle = () => {
    if (isFinished && samples.length === sent) Deferred.doneUnsafe(idle, Effect.void)
  }
  const send = () => {
    sent++
    const at = performance.now() - began
    late = Math.max(late, at - (sent * 1_000) / rate)
    ask((outcome) => {
      const sample = { at, took: performance.now() - began - at, ...outcome }
      samples.push(sample)
      waiting.forEach((check) => check(sample))
      checkIdle()
    })
  }
  const timer = yield* Effect.acquireRelease(
    Effect.sync(() =>
      setInterval(() => {
        const due = Math.floor(((performance.now() - began) * rate) / 1_000)
        for (let missing = due - sent; missing > 0; missing--) send()
      }, 5)
    ),
    (timer) => Effect.sync(() => clearInterval(timer))
  )

  const until = Effect.fnUntraced(function* (predicate: (sample: Sample) => boolean) {
    const found = yield* Deferred.make<void>()
    const check = (sample: Sample) => {
      if (predicate(sample)) Deferred.doneUnsafe(found, Effect.void)
    }
    waiting.add(check)
    yield* Effect.ensuring(
      Deferred.await(found),
      Effect.sync(() => waiting.delete(check))
    )
  })

  return {
    elapsed: Effect.sync(() => performance.now() - began),
    samples: Effect.sync(() => [...samples]),
    until,
    answered: (count) =>
      Effect.suspend(() => {
        const enough = samples.length + count
        return until(() => samples.length >= enough)
      }),
    finish: Effect.gen(function* () {
      clearInterval(timer)
      isFinished = true
      checkIdle()
      yield* Deferred.await(idle)
      return samples
    }),
    late: Effect.sync(() => late)
  }
})

/** Statistics of a load; times in milliseconds. */
export interface Summary {
  readonly count: number
  readonly failed: ReadonlyArray<Sample>
  readonly p50: number
  readonly p99: number
  readonly max: number
  /** The number of responses from each replica of Recommendations. */
  readonly replicas: ReadonlyMap<string, number>
}

export const summarize = (samples: ReadonlyArray<Sample>): Summary => {
  const times = samples.map(({ took }) => took).toSorted((a, b) => a - b)
  const quantile = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN
  const replicas = new Map<string, number>()
  for (const { replica } of samples) {
    if (replica !== undefined) replicas.set(replica, (replicas.get(replica) ?? 0) + 1)
  }
  return {
    count: samples.length,
    failed: samples.filter(({ failure }) => failure !== undefined),
    p50: quantile(0.5),
    p99: quantile(0.99),
    max: quantile(1),
    replicas
  }
}

/** The failures by reason: their number, and when the first and the last of them were sent. */
export const reasons = (samples: ReadonlyArray<Sample>): ReadonlyArray<string> => {
  const times = new Map<string, Array<number>>()
  for (const { at, failure } of samples) {
    if (failure !== undefined) times.set(failure, [...(times.get(failure) ?? []), at])
  }
  const seconds = (millis: number) => (millis / 1_000).toFixed(2)
  return Array.from(
    times,
    ([reason, at]) =>
      `${at.length} x ${reason} (from ${seconds(Math.min(...at))} s to ${seconds(Math.max(...at))} s of the load)`
  )
}
