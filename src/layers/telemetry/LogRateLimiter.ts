/**
 * Keeps a flood of like events from becoming a flood of lines, which would cost more than the events did: some in a second are
 * logged, and at its end how many there were besides.
 */
import { Context, Effect, Tracer } from "effect"

import { RequestAnnotations } from "./RequestAnnotations.ts"

/** Logs an event, unless there have been too many in this second. */
export interface LogLimit {
  readonly log: (line: Effect.Effect<void>) => Effect.Effect<void>
}

/** `what` names the events in the line that counts those left out: "failures of calls". */
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
  // it is of all of them, and not of the one that comes first
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
