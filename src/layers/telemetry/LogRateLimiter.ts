/**
 * Limits the log lines of one kind of event per second, since writing a line may cost more than the event itself. At the end of the
 * second, one line reports the number of suppressed ones.
 */
import { Context, Effect, Tracer } from "effect"

import { RequestAnnotations } from "./logFormat.ts"

/** Logs a line, unless the limit of this second is reached. A suppressed line is not evaluated. */
export interface LogLimit {
  readonly log: (line: Effect.Effect<void>) => Effect.Effect<void>
}

/** `what` names the events in the line that reports the suppressed ones, such as "failed gRPC calls". */
export const make = (what: string, perSecond = 50): LogLimit => {
  let isWindowOpen = false
  let logged = 0
  let suppressed = 0

  const report = Effect.suspend(() => {
    const count = suppressed
    isWindowOpen = false
    logged = 0
    suppressed = 0
    return count === 0 ? Effect.void : Effect.logWarning(`${count} log lines suppressed in the last second: ${what}`)
  })
  // the report concerns all requests, so it is logged without the span and annotations of the first one
  const openWindow = Effect.suspend(() => {
    isWindowOpen = true
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
        const startWindow = isWindowOpen ? Effect.void : openWindow
        if (logged < perSecond) {
          logged++
          return Effect.andThen(startWindow, line)
        }
        suppressed++
        return startWindow
      })
  }
}
