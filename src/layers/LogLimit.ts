/**
 * Keeps a flood of like events from becoming a flood of lines, which would cost more than the events did: some a second are
 * logged, and of the others how many there were.
 */
import { Effect } from "effect"

/** Logs an event, unless there have been too many in this second. */
export interface LogLimit {
  readonly log: (line: Effect.Effect<void>) => Effect.Effect<void>
}

/** `what` names the events in the line that counts those left out: "failures of calls". */
export const make = (what: string, perSecond = 50): LogLimit => {
  let second = 0
  let logged = 0
  let omitted = 0
  return {
    log: (line) =>
      Effect.suspend(() => {
        const now = Math.floor(performance.now() / 1000)
        if (now === second) {
          if (logged++ < perSecond) return line
          omitted++
          return Effect.void
        }
        const count = omitted
        second = now
        logged = 1
        omitted = 0
        return count === 0 ? line : Effect.andThen(Effect.logWarning(`${count} more ${what} are not logged`), line)
      })
  }
}
