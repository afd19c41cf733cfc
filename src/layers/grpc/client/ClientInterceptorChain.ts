/**
 * What the interceptors of a client come to, around a call or around an attempt of it.
 *
 * Those at the head of the list that only look on are told of all that they want to know in one step. Each would be two or three by
 * itself, and a page waits for them (npm run bench).
 */
import { type Cause, type Context, Effect, type Exit } from "effect"

import { clientStatusOf, type Watcher } from "../GrpcInterceptor.ts"
import { guarded } from "../server/ServerInterceptorChain.ts"

/** What one interceptor does. */
interface Part<Info, Error> {
  readonly watch?: ((info: Info, context: Context.Context<never>) => Watcher | undefined) | undefined
  readonly around?:
    | (<A, E, R>(effect: Effect.Effect<A, E | Error, R>, info: Info) => Effect.Effect<A, E | Error, R>)
    | undefined
}

/** All of it, around what is made in a context. */
export type Around<Info, Error> = <A, E, R>(
  info: Info,
  context: Context.Context<never>,
  make: (context: Context.Context<never>) => Effect.Effect<A, E | Error, R>
) => Effect.Effect<A, E | Error, R>

/** The first is the outermost; one that does both looks on from outside of what it does around. */
export const compose = <Info, Error>(parts: ReadonlyArray<Part<Info, Error>>): Around<Info, Error> => {
  const firstAround = parts.findIndex(({ around }) => around !== undefined)
  if (firstAround === -1) return watchedBy(parts)
  const outside = watchedBy<Info, Error>([...parts.slice(0, firstAround), { watch: parts[firstAround]!.watch }])
  const inside = parts.slice(firstAround).flatMap(({ around, watch }, at) => {
    const watched = watchedBy<Info, Error>([{ watch }])
    const watching: Part<Info, Error>["around"] =
      at === 0 || watch === undefined
        ? undefined
        : (effect, info) => Effect.withFiber(({ context }) => watched(info, context, () => effect))
    return [watching, around].filter((each) => each !== undefined)
  })
  return <A, E, R>(
    info: Info,
    context: Context.Context<never>,
    make: (context: Context.Context<never>) => Effect.Effect<A, E | Error, R>
  ) =>
    outside(info, context, () =>
      inside.reduceRight<Effect.Effect<A, E | Error, R>>(
        // one that throws has died, which those around it see
        (effect, intercept) => Effect.suspend(() => intercept(effect, info)),
        Effect.withFiber(({ context }) => make(context))
      )
    )
}

const watchedBy = <Info, Error>(parts: ReadonlyArray<Part<Info, Error>>): Around<Info, Error> => {
  const watches = parts.flatMap(({ watch }) => watch ?? [])
  return <A, E, R>(
    info: Info,
    context: Context.Context<never>,
    make: (context: Context.Context<never>) => Effect.Effect<A, E | Error, R>
  ) => {
    let within = context
    const ends: Array<Required<Watcher>["ended"]> = []
    for (const watch of watches) {
      const watcher = guarded(within, () => watch(info, within))
      if (watcher?.context !== undefined) within = watcher.context
      if (watcher?.ended !== undefined) ends.push(watcher.ended)
    }
    const made = make(within)
    const told = ends.length === 0 ? made : Effect.onExit(made, (exit) => tell(ends, exit, within))
    return within === context
      ? told
      : Effect.updateContext<A, E | Error, R, R>(told, () => within as Context.Context<R>)
  }
}

/** Tells the innermost first. */
const tell = (
  ends: ReadonlyArray<Required<Watcher>["ended"]>,
  exit: Exit.Exit<unknown, unknown>,
  context: Context.Context<never>
): Effect.Effect<void> => {
  const status = clientStatusOf(exit)
  let all: Effect.Effect<void> = Effect.void
  for (let at = ends.length - 1; at >= 0; at--) {
    const effect = guarded(context, () => ends[at]!(exit, status))
    if (effect !== undefined) all = Effect.andThen(all, Effect.catchCause(effect, logBug))
  }
  return all
}

/** A bug in what looks on does not become the outcome of the call. */
const logBug = (cause: Cause.Cause<unknown>) => Effect.logError("A bug in an interceptor", cause)
