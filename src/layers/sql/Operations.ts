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
   * does.
   */
  readonly limit: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    time: Duration.Duration
  ) => Effect.Effect<A, E | OperationTimeout, R>
  /** The scope of all fibers that use the database. It closes before the database does. */
  readonly scope: Scope.Scope
}

/** How long operations that were interrupted may take to end, before the connections of a silent server are destroyed. */
const grace = Duration.seconds(1)

/** How long a server may be silent while such operations do not end. */
const maxSilence = Duration.seconds(5)

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

  // two fibers and no scope, since it is on the path of every operation
  const limit: Operations["limit"] = (effect, time) =>
    Effect.contextWith((context: Context.Context<Effect.Services<typeof effect>>) =>
      Effect.callback((resume) => {
        const run = Effect.runForkWith(context)
        const fiber = run(TraceContext.onlyInTraces(effect))
        const timer = run(Effect.sleep(time))
        const abandon = () => {
          fiber.interruptUnsafe()
          run(insist(Fiber.await(fiber), maxSilence))
        }
        running.add(fiber)
        timer.addObserver((exit) => {
          if (Exit.isFailure(exit)) return
          resume(Effect.fail(new OperationTimeout({ millis: Duration.toMillis(time) })))
          abandon()
        })
        fiber.addObserver((exit) => {
          running.delete(fiber)
          timer.interruptUnsafe()
          resume(exit)
        })
        return Effect.sync(() => {
          timer.interruptUnsafe()
          abandon()
        })
      })
    )
  return { limit, scope }
})
