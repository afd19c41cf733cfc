/**
 * Keeps what runs again and again alive, such as a poll: an unexpected error of one run must not end the loop silently.
 */
import { Cause, Effect } from "effect"

/** Runs a task. If it dies, the result is that of `orElse`. */
export type Guard = <A, R, B = void>(
  task: Effect.Effect<A, never, R>,
  orElse?: () => B
) => Effect.Effect<A | B, never, R>

/**
 * Makes the guard of a task. Each defect is caught; of consecutive ones the first is logged at Error, with its cause. An interruption goes
 * on.
 */
export const makeGuard = (message: string): Guard => {
  let hasFailed = false
  return (task, orElse) =>
    Effect.matchCauseEffect(task, {
      onSuccess: (value) =>
        Effect.sync(() => {
          hasFailed = false
          return value
        }),
      onFailure: (cause) => {
        if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
        const isFirst = !hasFailed
        hasFailed = true
        return Effect.as(isFirst ? Effect.logError(message, cause) : Effect.void, orElse?.() as never)
      }
    })
}
