/**
 * Composes a list of interceptors into one, for servers and for clients.
 *
 * The hooks of the interceptors ahead of the first `around` run as plain functions, outside the fiber of the call. Those behind it
 * see the call as that `around` leaves it, so they run within it, as Effects.
 */
import { type Context, Effect, type Exit } from "effect"

import type { Hooks } from "./GrpcInterceptor.ts"
import type * as Status from "./Status.ts"

/** The interceptors of a list; the first is the outermost. */
export interface InterceptorChain<Call, Failure, Around> {
  /** Runs the `onStart` hooks, and returns the context to run the call in. */
  readonly start: (call: Call, context: Context.Context<never>) => Context.Context<never>
  /** Runs the `onEnd` hooks of a call that was started; takes the context that `start` returned. */
  readonly end: (call: Call, exit: Exit.Exit<unknown, Failure>, context: Context.Context<never>) => void
  /** Wraps a call in what is left of the list; undefined if nothing is, as with observers alone. */
  readonly around: Around | undefined
  /** Does all of it for an Effect that has no fiber of its own: it is made with the context to run it in. */
  readonly run: <A, E extends Failure, R>(
    call: Call,
    context: Context.Context<never>,
    make: (context: Context.Context<never>) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
}

/** Any `around`: what it may fail with is for the types of {@link GrpcInterceptor} to say. */
type Wrap<Call, Failure> = <A, E extends Failure, R>(
  effect: Effect.Effect<A, E, R>,
  call: Call
) => Effect.Effect<A, E, R>

/** `statusOf` gives the status that a call ends with, undefined for OK. */
export const make = <Call, Failure, Around>(
  interceptors: ReadonlyArray<Hooks<Call, Failure> & { readonly around?: Around }>,
  statusOf: (exit: Exit.Exit<unknown, Failure>, call: Call) => Status.Status | undefined
): InterceptorChain<Call, Failure, Around> => {
  const firstAround = interceptors.findIndex(({ around }) => around !== undefined)
  const outside = firstAround === -1 ? interceptors : interceptors.slice(0, firstAround + 1)
  const inside = firstAround === -1 ? [] : interceptors.slice(firstAround)
  const starts = outside.flatMap(({ onStart }) => onStart ?? [])
  const ends = outside.flatMap(({ onEnd }) => onEnd ?? []).toReversed()

  const start = (call: Call, context: Context.Context<never>) => {
    let within = context
    for (const onStart of starts) {
      try {
        within = onStart(call, within) ?? within
      } catch (exception) {
        runInBackground(within, Effect.die(exception))
      }
    }
    return within
  }

  const end = (call: Call, exit: Exit.Exit<unknown, Failure>, context: Context.Context<never>) => {
    const status = statusOf(exit, call)
    for (const onEnd of ends) {
      try {
        const effect = onEnd(call, exit, status, context)
        if (effect !== undefined) runInBackground(context, effect)
      } catch (exception) {
        runInBackground(context, Effect.die(exception))
      }
    }
  }

  /** The hooks of one interceptor within an Effect. */
  const hooksOf = ({ onEnd, onStart }: Hooks<Call, Failure>): Wrap<Call, Failure> | undefined => {
    if (onStart === undefined && onEnd === undefined) return undefined
    const hooks: Hooks<Call, Failure> = { ...(onStart && { onStart }), ...(onEnd && { onEnd }) }
    const { run } = make<Call, Failure, never>([hooks], statusOf)
    return (effect, call) => Effect.withFiber(({ context }) => run(call, context, () => effect))
  }

  const wraps = inside
    .flatMap((interceptor, at) => [at === 0 ? undefined : hooksOf(interceptor), interceptor.around])
    .filter((wrap) => wrap !== undefined) as ReadonlyArray<Wrap<Call, Failure>>
  // one that throws has died, which the outer ones see
  const wrap: Wrap<Call, Failure> = (effect, call) =>
    wraps.reduceRight((inner, wrap) => Effect.suspend(() => wrap(inner, call)), effect)

  return {
    start,
    end,
    around: wraps.length === 0 ? undefined : (wrap as Around),
    run: <A, E extends Failure, R>(
      call: Call,
      context: Context.Context<never>,
      make: (context: Context.Context<never>) => Effect.Effect<A, E, R>
    ) => {
      const within = start(call, context)
      const made =
        wraps.length === 0
          ? make(within)
          : wrap(
              Effect.withFiber<A, E, R>(({ context }) => make(context)),
              call
            )
      const observed =
        ends.length === 0 ? made : Effect.onExit(made, (exit) => Effect.sync(() => end(call, exit, within)))
      return within === context
        ? observed
        : Effect.updateContext<A, E, R, R>(observed, () => within as Context.Context<R>)
    }
  }
}

/** Runs what an interceptor does besides the call. What fails is logged, and does not affect the call. */
const runInBackground = (context: Context.Context<never>, effect: Effect.Effect<void>): void => {
  Effect.runForkWith(context)(
    Effect.catchCause(effect, (cause) => Effect.logError("Exception in an interceptor", cause))
  )
}
