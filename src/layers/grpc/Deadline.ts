/**
 * How long what is being done may still take. A server puts the deadline of each call here, and a client takes it from here,
 * so that a call made while answering another one never outlives it (https://grpc.io/docs/guides/deadlines/).
 *
 * Deadlines are monotonic, so that a wall clock that is set does not move them.
 */
import { Context, Duration, Effect } from "effect"

/** When what is being done must be over, in milliseconds as `performance.now()` counts them; infinite without a limit. */
export const Deadline = Context.Reference<number>("layers/grpc/Deadline", { defaultValue: () => Infinity })

/** How long there is until the deadline: nothing once it has passed. */
export const timeLeft: Effect.Effect<Duration.Duration> = Effect.map(Deadline, (deadline) =>
  deadline === Infinity ? Duration.infinity : Duration.millis(Math.max(0, deadline - performance.now()))
)

/** Gives an effect that long, or what was left before if that is less. It is told, and not interrupted: that is up to calls. */
export const within = (budget: Duration.Input) => {
  const millis = Duration.toMillis(budget)
  return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.updateContext(effect, (context: Context.Context<R>) =>
      Context.add(context, Deadline, Math.min(Context.get(context, Deadline), performance.now() + millis))
    )
}
