/**
 * The deadline of the current call. A server provides it to handlers, and a client reads it, so that deadlines propagate from a call to
 * the calls that its handler makes (https://grpc.io/docs/guides/deadlines/).
 *
 * Deadlines use the monotonic clock, so changes of the wall clock do not affect them.
 */
import { Context, Duration, Effect } from "effect"

/** In milliseconds of `performance.now()`; Infinity without a deadline. */
export const Deadline = Context.Reference<number>("layers/grpc/Deadline", { defaultValue: () => Infinity })

/** The time until the deadline: zero once it has passed. */
export const timeLeft: Effect.Effect<Duration.Duration> = Effect.map(Deadline, (deadline) =>
  deadline === Infinity ? Duration.infinity : Duration.millis(Math.max(0, deadline - performance.now()))
)

/**
 * Runs an effect with a deadline after a number of milliseconds, or with the current deadline if that is earlier. The effect is not
 * interrupted; gRPC calls inside fail with DEADLINE_EXCEEDED.
 */
export const within = <A, E, R>(effect: Effect.Effect<A, E, R>, millis: number): Effect.Effect<A, E, R> =>
  Effect.updateContext(effect, (context: Context.Context<R>) =>
    Context.add(context, Deadline, Math.min(Context.get(context, Deadline), performance.now() + millis))
  )
