/**
 * Callbacks that Node, grpc-js or a timer calls: what they throw would be an uncaught exception, which ends the process. A guarded
 * callback logs it as a bug instead, ends what it was about, and returns. Wrap every listener, timer and completion callback where
 * it is registered, unless it cannot throw.
 */
import { Cause, Context, Effect } from "effect"

import * as LogRateLimiter from "./LogRateLimiter.ts"

/** What happens when a guarded callback throws. Both get the arguments of the callback. */
export interface OnBug<Args extends ReadonlyArray<unknown>> {
  /** What the callback was about, such as the call and its peer: annotations of the log line. */
  readonly annotations?: ((...args: Args) => Readonly<Record<string, unknown>>) | undefined
  /** Ends what the callback was about, such as its stream or its connection. */
  readonly recover?: ((...args: Args) => void) | undefined
}

/**
 * Wraps a callback so that it never throws. `name` says in the log which callback it was: "HTTP/2 session listener".
 *
 * ```ts
 * session.on("goaway", guard("GOAWAY listener", (code) => ..., { recover: () => session.destroy() }))
 * ```
 */
export type Guard = <Args extends ReadonlyArray<unknown>>(
  name: string,
  callback: (...args: Args) => void,
  onBug?: OnBug<Args>
) => (...args: Args) => void

const bugs = LogRateLimiter.make("exceptions of callbacks")

/** Makes a {@link Guard} that logs by the logger of a context. Callbacks are called without a receiver (`this`). */
export const make = (context: Context.Context<never> = Context.empty()): Guard => {
  const runFork = Effect.runForkWith(context)

  const log = (name: string, annotations: Readonly<Record<string, unknown>>, exception: unknown) =>
    void runFork(
      bugs.log(
        Effect.annotateLogs(Effect.logError(`Exception in a callback: ${name}`, Cause.die(exception)), annotations)
      )
    )

  return (name, callback, { annotations, recover } = {}) =>
    (...args) => {
      try {
        callback(...args)
      } catch (exception) {
        log(name, attempt(() => annotations?.(...args)) ?? {}, exception)
        try {
          recover?.(...args)
        } catch (next) {
          log(`${name}, while recovering`, {}, next)
        }
      }
    }
}

const attempt = <A>(evaluate: () => A): A | undefined => {
  try {
    return evaluate()
  } catch {
    return undefined
  }
}
