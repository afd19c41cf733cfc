/**
 * Runs calls that arrive at the same time in one transaction or statement, since each costs more than what it writes or reads: while
 * transactions run, calls wait, and form the next one together.
 *
 * ```ts
 * const record = yield* GroupCommit.make({
 *   commit: (calls) => transaction("events.record", insertAll(calls)),
 *   sizeOf: (call) => call.events.length,
 *   maxSize: 1000,
 *   concurrency: 1,
 *   isSplit: ({ isOutage }) => !isOutage
 * })
 * ```
 */
import { Array, Cause, type Context, Deferred, Effect, Exit, Option, Queue, type Scope, Semaphore } from "effect"

export interface Options<in out A, out B, in out E> {
  /** Runs calls together, and returns an exit for each, in the same order. */
  readonly commit: (calls: Array.NonEmptyReadonlyArray<A>) => Effect.Effect<ReadonlyArray<Exit.Exit<B, E>>, E>
  readonly sizeOf: (call: A) => number
  /** A transaction takes no more calls once their sizes add up to this. */
  readonly maxSize: number
  /** Transactions at the same time. */
  readonly concurrency: number
  /** Whether the calls of a transaction that failed run again one by one, since one of them alone can be the reason. */
  readonly isSplit: (error: E) => boolean
}

/** A call that waits for a transaction, or is in one. */
interface Entry<A, B, E> {
  readonly call: A
  readonly done: Deferred.Deferred<B, E>
  /** The context of the caller, so that the spans of a transaction belong to the trace of one of its calls. */
  readonly context: Context.Context<never>
  isInterrupted: boolean
}

/** Calls that may wait; further ones wait until they may. */
const maxWaiting = 1000

/** Calls that run again by themselves at the same time. */
const splitConcurrency = 4

/**
 * Returns the function that makes a call. Each call succeeds or fails as a whole. If a transaction dies, or fails for a reason that
 * {@link Options.isSplit} accepts, its calls run again, one by one, so that a call cannot make others fail. An interrupted call that is not in
 * a transaction yet is dropped.
 */
export const make = Effect.fnUntraced(function* <A, B, E>(
  options: Options<A, B, E>
): Effect.fn.Return<(call: A) => Effect.Effect<B, E>, never, Scope.Scope> {
  const waiting = yield* Queue.bounded<Entry<A, B, E>>(maxWaiting)
  const splits = yield* Semaphore.make(splitConcurrency)
  const commitNext = Effect.flatMap(Queue.take(waiting), (first) =>
    commit(takeGroup(first, waiting, options), options, splits)
  )
  for (let worker = 0; worker < options.concurrency; worker++) yield* Effect.forkScoped(Effect.forever(commitNext))
  return (call) =>
    Effect.withFiber(({ context }) => {
      const entry: Entry<A, B, E> = { call, done: Deferred.makeUnsafe(), context, isInterrupted: false }
      const drop = Effect.sync(() => {
        entry.isInterrupted = true
      })
      return Effect.onInterrupt(Effect.andThen(Queue.offer(waiting, entry), Deferred.await(entry.done)), () => drop)
    })
})

/** The first call, and those that wait with it. */
const takeGroup = <A, B, E>(
  first: Entry<A, B, E>,
  waiting: Queue.Dequeue<Entry<A, B, E>>,
  { maxSize, sizeOf }: Options<A, B, E>
): ReadonlyArray<Entry<A, B, E>> => {
  const group = [first]
  let size = sizeOf(first.call)
  while (size < maxSize) {
    const next = Queue.takeUnsafe(waiting)
    if (next === undefined || Exit.isFailure(next)) break
    group.push(next.value)
    size += sizeOf(next.value.call)
  }
  return group
}

const commit = <A, B, E>(
  group: ReadonlyArray<Entry<A, B, E>>,
  options: Options<A, B, E>,
  splits: Semaphore.Semaphore
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const entries = group.filter(({ isInterrupted }) => !isInterrupted)
    if (!Array.isReadonlyArrayNonEmpty(entries)) return Effect.void
    const committed = options.commit(Array.map(entries, ({ call }) => call))
    return Effect.matchCauseEffect(Effect.provideContext(committed, entries[0].context), {
      onSuccess: (exits) =>
        Effect.sync(() => {
          for (const [index, { done }] of entries.entries()) Deferred.doneUnsafe(done, exits[index]!)
        }),
      onFailure: (cause) => {
        const isSplit = Cause.hasDies(cause) || Option.exists(Cause.findErrorOption(cause), options.isSplit)
        return entries.length > 1 && isSplit
          ? Effect.forEach(entries, (entry) => splits.withPermit(commit([entry], options, splits)), {
              concurrency: splitConcurrency,
              discard: true
            })
          : Effect.sync(() => {
              for (const { done } of entries) Deferred.doneUnsafe(done, Exit.failCause(cause))
            })
      }
    })
  })
