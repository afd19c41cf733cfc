/**
 * Bounds the time of the operations of a database, and of closing it, also when the server is gone without a word.
 */
import { type Context, Duration, Effect, Exit, Fiber, Scope } from "effect"

import * as TraceContext from "../telemetry/TraceContext.ts"
import { OperationTimeout } from "./operationErrors.ts"

/** Runs the operations of a database. */
export interface Operations {
  /**
   * Fails when the time is over, without waiting for the database to confirm that it cancelled the statement: a server that is gone never
   * does. `onEnd` is called with the outcome, also when the operation is interrupted; it must not throw.
   */
  readonly limit: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    time: Duration.Duration,
    onEnd?: (exit: Exit.Exit<A, E | OperationTimeout>) => void
  ) => Effect.Effect<A, E | OperationTimeout, R>
  /** The scope of all fibers that use the database. It closes before the database does. */
  readonly scope: Scope.Scope
}

/** How long operations that were interrupted may take to end, before the connections of a silent server are destroyed. */
const grace = Duration.seconds(1)

/** How long a server may be silent while such operations do not end. */
const maxSilence = Duration.seconds(5)

/** The longest time of a timer of Node's, in milliseconds. */
const maxTimeout = 2 ** 31 - 1

/** `destroySilent` ends what waits for a server that has sent nothing for a time in milliseconds. */
export const make = Effect.fnUntraced(function* (
  destroySilent: (time: number) => void
): Effect.fn.Return<Operations, never, Scope.Scope> {
  const scope = yield* Scope.make()
  const running = new Set<Fiber.Fiber<unknown, unknown>>()
  /** Waits for an effect that ends when the server answers. A server that stays silent loses its connections, which ends it too. */
  const insist = <A>(ended: Effect.Effect<A>, silence: Duration.Duration) =>
    Effect.raceFirst(
      ended,
      Effect.forever(
        Effect.delay(
          Effect.sync(() => destroySilent(Duration.toMillis(silence))),
          grace
        )
      )
    )
  const close = (exit: Exit.Exit<unknown, unknown>) =>
    Effect.andThen(Fiber.interruptAll(running), Scope.close(scope, exit))
  yield* Effect.addFinalizer((exit) =>
    Effect.flatMap(Effect.forkDetach(close(exit)), (closing) => insist(Fiber.join(closing), Duration.zero))
  )

  // a timer of Node's instead of a second fiber, and no scope, since every operation runs this
  const limit = <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    time: Duration.Duration,
    onEnd: (exit: Exit.Exit<A, E | OperationTimeout>) => void = () => {}
  ) =>
    Effect.contextWith((context: Context.Context<R>) =>
      Effect.callback<A, E | OperationTimeout>((resume) => {
        const run = Effect.runForkWith(TraceContext.onlyInTraces(context))
        const millis = Duration.toMillis(time)
        let isOver = false
        const end = (exit: Exit.Exit<A, E | OperationTimeout>) => {
          isOver = true
          clearTimeout(timer)
          onEnd(exit)
          resume(exit)
        }
        const abandon = (exit: Exit.Exit<never, OperationTimeout>) => {
          end(exit)
          fiber.interruptUnsafe()
          run(insist(Fiber.await(fiber), maxSilence))
        }
        const timer = setTimeout(
          () => abandon(Exit.fail(new OperationTimeout({ millis }))),
          Math.min(millis, maxTimeout)
        )
        const fiber = run(effect)
        running.add(fiber)
        fiber.addObserver((exit) => {
          running.delete(fiber)
          if (!isOver) end(exit)
        })
        return Effect.sync(() => abandon(Exit.interrupt()))
      })
    )
  return { limit, scope }
})
