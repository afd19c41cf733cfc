/**
 * Composes a list of interceptors into one, for servers and for clients. The first is the outermost.
 *
 * Hooks up to and including the first interceptor with `around` run synchronously, outside the fiber of the call. Later hooks run as
 * Effects inside that `around`, so they see its result.
 */
import { type Context, Effect, Exit } from "effect"

import type { Hooks } from "./GrpcInterceptor.ts"
import type * as Status from "./Status.ts"

/** The status of a call that failed. */
export type StatusOf<Call, Failure> = (exit: Exit.Failure<unknown, Failure>, call: Call) => Status.Status | undefined

/** An `around` of an interceptor. Its errors are typed in {@link GrpcInterceptor}. */
export type Around<Call, Failure> = <A, E extends Failure, R>(
  effect: Effect.Effect<A, E, R>,
  call: Call
) => Effect.Effect<A, E, R>

type OnStart<Call> = NonNullable<Hooks<Call, never>["onStart"]>

type OnEnd<Call, Failure> = NonNullable<Hooks<Call, Failure>["onEnd"]>

export class InterceptorChain<Call, Failure> {
  /** Wraps a call in the interceptors from the first with `around` on; undefined if there is none, as with only observers. */
  readonly around: Around<Call, Failure> | undefined
  readonly #starts: ReadonlyArray<OnStart<Call>>
  /** The innermost first. */
  readonly #ends: ReadonlyArray<OnEnd<Call, Failure>>
  readonly #statusOf: StatusOf<Call, Failure>

  constructor(
    interceptors: ReadonlyArray<Hooks<Call, Failure> & { readonly around?: unknown }>,
    statusOf: StatusOf<Call, Failure>
  ) {
    const firstAround = interceptors.findIndex(({ around }) => around !== undefined)
    const outside = firstAround === -1 ? interceptors : interceptors.slice(0, firstAround + 1)
    this.#starts = outside.flatMap(({ onStart }) => onStart ?? [])
    this.#ends = outside.flatMap(({ onEnd }) => onEnd ?? []).toReversed()
    this.#statusOf = statusOf
    if (firstAround === -1) return
    const [first, ...inside] = interceptors.slice(firstAround)
    const wraps: ReadonlyArray<unknown> = [
      first?.around,
      ...inside.flatMap((inner) => [hooksWithin(inner, statusOf), inner.around])
    ]
    this.around = compose(wraps.filter((wrap): wrap is Around<Call, Failure> => wrap !== undefined))
  }

  /** Runs the `onStart` hooks, and returns the context to run the call in. */
  start(call: Call, context: Context.Context<never>): Context.Context<never> {
    let within = context
    for (const onStart of this.#starts) {
      try {
        within = onStart(call, within) ?? within
      } catch (exception) {
        runInBackground(within, Effect.die(exception))
      }
    }
    return within
  }

  /** Runs the `onEnd` hooks of a call, with the context that `start` returned. */
  end(call: Call, exit: Exit.Exit<unknown, Failure>, context: Context.Context<never>): void {
    const status = Exit.isSuccess(exit) ? undefined : this.#statusOf(exit, call)
    for (const onEnd of this.#ends) {
      try {
        const effect = onEnd(call, exit, status, context)
        if (effect !== undefined) runInBackground(context, effect)
      } catch (exception) {
        runInBackground(context, Effect.die(exception))
      }
    }
  }

  /** Runs hooks and wrappers around an Effect, in the fiber of its caller, whose context is `context`. */
  run<A, E extends Failure, R>(
    call: Call,
    context: Context.Context<never>,
    effect: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, R> {
    const within = this.start(call, context)
    const wrapped = this.around === undefined ? effect : this.around(effect, call)
    const observed =
      this.#ends.length === 0
        ? wrapped
        : Effect.onExit(wrapped, (exit) => {
            this.end(call, exit, within)
            return Effect.void
          })
    return within === context
      ? observed
      : Effect.updateContext<A, E, R, R>(observed, () => within as Context.Context<R>)
  }
}

/** An exception in a wrapper is a defect of the call, which the outer ones observe. */
const compose =
  <Call, Failure>(wraps: ReadonlyArray<Around<Call, Failure>>): Around<Call, Failure> =>
  (effect, call) =>
    wraps.reduceRight((inner, wrap) => Effect.suspend(() => wrap(inner, call)), effect)

/** The hooks of one interceptor as an Effect. */
const hooksWithin = <Call, Failure>(
  { onEnd, onStart }: Hooks<Call, Failure>,
  statusOf: StatusOf<Call, Failure>
): Around<Call, Failure> | undefined => {
  if (onStart === undefined && onEnd === undefined) return undefined
  const hooks = new InterceptorChain<Call, Failure>(
    [{ ...(onStart && { onStart }), ...(onEnd && { onEnd }) }],
    statusOf
  )
  return (effect, call) => Effect.withFiber(({ context }) => hooks.run(call, context, effect))
}

/** Runs an Effect of a hook in the background. A failure is logged, and does not affect the call. */
const runInBackground = (context: Context.Context<never>, effect: Effect.Effect<void>): void => {
  Effect.runForkWith(context)(
    Effect.catchCause(effect, (cause) => Effect.logError("Exception in an interceptor", cause))
  )
}
