/**
 * Interceptors around a Stream of responses. They wrap an Effect that has the lifetime and exit of the Stream. That Effect runs in a
 * separate fiber, since the Stream is consumed elsewhere.
 */
import { Cause, Context, Deferred, Effect, Exit, Fiber, type Scope, Stream } from "effect"

import { GrpcError } from "../GrpcError.ts"
import type { InterceptorChain } from "../InterceptorChain.ts"
import * as Status from "../Status.ts"

/** Begins a Stream within the interceptors of a call. `begin` runs in the context that the interceptors provide. */
export const open = <Info, A, E, F, R, R2>(
  chain: InterceptorChain<Info, unknown>,
  info: Info,
  begin: Effect.Effect<Stream.Stream<A, F, R2>, E, R>
): Effect.Effect<Stream.Stream<A, F, R2>, E, R | Scope.Scope> =>
  Effect.gen(function* () {
    const inner = yield* Deferred.make<Context.Context<never>, E>()
    const ended = yield* Deferred.make<void, E>()
    const untilEnd = Effect.flatMap(Effect.context<never>(), (context) =>
      Effect.andThen(Deferred.succeed(inner, context), Deferred.await(ended))
    )
    const intercepted = yield* Effect.withFiber<void, E>(({ context }) => chain.run(info, context, untilEnd)).pipe(
      // an interceptor that fails first prevents the Stream from starting
      Effect.onExit((exit) =>
        Exit.isFailure(exit) ? Deferred.failCause(inner, exit.cause) : Deferred.interrupt(inner)
      ),
      Effect.forkScoped({ startImmediately: true })
    )
    const context = yield* Deferred.await(inner)
    let isComplete = false
    const end = (exit: Exit.Exit<unknown, unknown>) =>
      Effect.andThen(
        // a reader that stops early, or fails, cancels the call
        isComplete || isCallFailure(exit)
          ? Deferred.done(ended, Exit.asVoid(exit as Exit.Exit<unknown, E>))
          : Deferred.interrupt(ended),
        Fiber.await(intercepted)
      )
    const stream = yield* begin.pipe(
      Effect.updateContext((current: Context.Context<R>) => Context.merge(current, context)),
      Effect.onError((cause) => end(Exit.failCause(cause)))
    )
    return stream.pipe(
      Stream.onEnd(Effect.sync(() => (isComplete = true))),
      Stream.onExit((exit) => Effect.suspend(() => end(exit)))
    )
  })

/** Whether the call failed, died, or was interrupted, in contrast to the Stream of its requests. */
const isCallFailure = (exit: Exit.Exit<unknown, unknown>): boolean => {
  if (Exit.isSuccess(exit)) return false
  const failure = exit.cause.reasons.find(Cause.isFailReason)?.error
  return failure === undefined || failure instanceof GrpcError || Status.isStatus(failure)
}
