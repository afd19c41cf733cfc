/**
 * What a list of interceptors comes to: what is told of calls, and what is an effect around their answers.
 *
 * Those at the head of the list that only look on are told from outside of the fiber that answers a call. The effects that they
 * would be otherwise cost as much as a call of a service that computes its answer at once: 10 us (npm run bench).
 */
import { Cause, type Context, Effect, type Exit, Stream } from "effect"

import type { ServerInterceptor } from "../GrpcInterceptor.ts"
import type * as Status from "../Status.ts"
import type { CallContext } from "./CallContext.ts"

type Answer = Required<ServerInterceptor>["answer"]

export interface Around {
  /** Tells of a call that is to be answered, in a context, and gives the context to answer it in. */
  readonly begin: (call: CallContext, context: Context.Context<never>) => Context.Context<never>
  /** Tells how a call has ended, which has begun with that context. */
  readonly end: (call: CallContext, exit: Exit.Exit<unknown, Status.Status>, context: Context.Context<never>) => void
  /** The effects around an answer, those of observers outside of those of others; undefined if there are none. */
  readonly observe: Answer | undefined
  readonly intercept: Answer | undefined
  readonly stream: Required<ServerInterceptor>["stream"]
}

/** Lists whose first is the outermost; observers are outside of all others. */
export const make = (
  observers: ReadonlyArray<ServerInterceptor>,
  interceptors: ReadonlyArray<ServerInterceptor>
): Around => {
  const firstAround = observers.findIndex(({ answer }) => answer !== undefined)
  const watching = firstAround === -1 ? observers : observers.slice(0, firstAround)
  const isTold = firstAround === -1 && interceptors.every(({ answer }) => answer === undefined)
  const told = isTold ? [...watching, ...interceptors] : watching
  const contexts = told.flatMap(({ context }) => context ?? [])
  const begun = told.flatMap(({ begun }) => begun ?? [])
  const ended = told.flatMap(({ ended }) => ended ?? []).toReversed()

  return {
    begin: (call, context) => {
      let within = context
      for (const change of contexts) within = guarded(within, () => change(within, call)) ?? within
      for (const tell of begun) guarded(within, () => tell(call, within))
      return within
    },
    end: (call, exit, context) => {
      const status = call.status(exit)
      for (const tell of ended) {
        const effect = guarded(context, () => tell(call, exit, status, context))
        if (effect !== undefined) Effect.runForkWith(context)(effect)
      }
    },
    observe: compose(observers.slice(watching.length)),
    intercept: isTold ? undefined : compose(interceptors),
    stream: composeStreams([...observers, ...interceptors])
  }
}

/** What looks on is not to become of what it looks at: what it throws is logged. */
export const guarded = <A>(context: Context.Context<never>, tell: () => A): A | undefined => {
  try {
    return tell()
  } catch (bug) {
    Effect.runForkWith(context)(Effect.logError("A bug in an interceptor", Cause.die(bug)))
    return undefined
  }
}

/** What interceptors do around an answer, all together; the first is the outermost. */
const compose = (interceptors: ReadonlyArray<ServerInterceptor>): Answer | undefined => {
  const all = interceptors.flatMap((interceptor) =>
    [watch(interceptor), interceptor.answer].filter((answer) => answer !== undefined)
  )
  if (all.length === 0) return undefined
  // one that throws has died, which those around it see
  return (answer, call) => all.reduceRight((inner, intercept) => Effect.suspend(() => intercept(inner, call)), answer)
}

/** One that only looks on, within an effect. */
const watch = ({ begun, context: change, ended }: ServerInterceptor): Answer | undefined =>
  begun === undefined && change === undefined && ended === undefined
    ? undefined
    : <A, R>(answer: Effect.Effect<A, Status.Status, R>, call: Parameters<Answer>[1]) =>
        Effect.withFiber<A, Status.Status, R>(({ context }) => {
          const within = guarded(context, () => change?.(context, call)) ?? context
          guarded(within, () => begun?.(call, within))
          const told = Effect.onExit(
            answer,
            (exit) => guarded(within, () => ended?.(call, exit, call.statusOf(exit), within)) ?? Effect.void
          )
          return Effect.updateContext(told, (): Context.Context<R> => within as Context.Context<R>)
        })

const composeStreams = (interceptors: ReadonlyArray<ServerInterceptor>): Required<ServerInterceptor>["stream"] => {
  const all = interceptors.flatMap(({ stream }) => stream ?? [])
  return (messages, call) =>
    all.reduceRight((inner, intercept) => Stream.suspend(() => intercept(inner, call)), messages)
}
