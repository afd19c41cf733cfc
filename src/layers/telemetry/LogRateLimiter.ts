/**
 * Limits the log lines of one kind of event per second, since writing a line may cost more than the event itself. At the end of the
 * second one line counts the suppressed ones.
 */
import { Context, Effect, Tracer } from "effect"

import { RequestAnnotations } from "./RequestAnnotations.ts"

/** Logs a line, unless the limit of this second is reached. A suppressed line is not evaluated. */
export interface LogLimit {
  readonly log: (line: Effect.Effect<void>) => Effect.Effect<void>
}

/** `what` names the events in the line that counts the suppressed ones, such as "failed gRPC calls". */
export const make = (what: string, perSecond = 50): LogLimit => {
  let isCounting = false
  let logged = 0
  let omitted = 0

  const report = Effect.suspend(() => {
    const count = omitted
    isCounting = false
    logged = 0
    omitted = 0
    return count === 0 ? Effect.void : Effect.logWarning(`${count} log lines suppressed in the last second: ${what}`)
  })
  // the line counts the events of all requests, so it is logged outside of the first one's span and annotations
  const count = Effect.suspend(() => {
    isCounting = true
    return Effect.sleep("1 second")
  }).pipe(
    Effect.andThen(report),
    Effect.updateContext((context: Context.Context<never>) =>
      Context.omit(RequestAnnotations, Tracer.ParentSpan)(context)
    ),
    Effect.forkDetach({ startImmediately: true }),
    Effect.asVoid
  )

  return {
    log: (line) =>
      Effect.suspend(() => {
        const begin = isCounting ? Effect.void : count
        if (logged < perSecond) {
          logged++
          return Effect.andThen(begin, line)
        }
        omitted++
        return begin
      })
  }
}
