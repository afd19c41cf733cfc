/**
 * An open-loop load generator: it sends requests at a fixed rate whether or not earlier ones are answered, so a service that hangs
 * still receives the full load.
 */
import { Deferred, Effect, type Scope } from "effect"

/** The result of one request. */
export interface Sample {
  /** When it was sent, in milliseconds since the start of the load. */
  readonly at: number
  /** The latency in milliseconds. */
  readonly took: number
  /** The reason if it failed. */
  readonly failure?: string | undefined
  /** The replica of Recommendations that answered, if known. */
  readonly replica?: string | undefined
}

export type Outcome = Pick<Sample, "failure" | "replica">

export interface Load {
  /** Milliseconds since the start of the load. */
  readonly elapsed: Effect.Effect<number>
  /** The results so far, in the order of the answers. */
  readonly samples: Effect.Effect<ReadonlyArray<Sample>>
  /** Waits for a number of further answers. */
  readonly answered: (count: number) => Effect.Effect<void>
  /** Waits for a later answer that matches. */
  readonly until: (predicate: (sample: Sample) => boolean) => Effect.Effect<void>
  /** Stops sending, waits for outstanding answers, and returns all results. */
  readonly finish: Effect.Effect<ReadonlyArray<Sample>>
  /** The largest delay of a request in milliseconds. A large value means that the load generator itself was starved. */
  readonly late: Effect.Effect<number>
}

/** Sends requests until `finish` or the end of the scope. `ask` calls back when its request is answered or has failed. */
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

/** Figures of a load. Times are in milliseconds. */
export interface Summary {
  readonly count: number
  readonly failed: ReadonlyArray<Sample>
  readonly p50: number
  readonly p99: number
  readonly max: number
  /** The number of answers by replica of Recommendations. */
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

/** Failures by reason, with their number and the times of the first and the last. */
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
