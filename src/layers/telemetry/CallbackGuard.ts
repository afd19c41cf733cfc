/**
 * Guards callbacks of Node, grpc-js and timers. An exception in such a callback would be uncaught and end the process; a guarded
 * callback logs it, runs a recovery and returns. Wrap every listener, timer and completion callback that may throw where it is
 * registered.
 */
import { Cause, Context, Effect } from "effect"

import * as LogRateLimiter from "./LogRateLimiter.ts"

/** What happens when a callback throws. Both functions receive the arguments of the callback. */
export interface OnBug<Args extends ReadonlyArray<unknown>> {
  /** Annotations of the log line, such as the call and its peer. */
  readonly annotations?: ((...args: Args) => Readonly<Record<string, unknown>>) | undefined
  /** Releases the resources of the callback, such as its stream or its connection. */
  readonly recover?: ((...args: Args) => void) | undefined
}

/**
 * Wraps a callback so that it never throws. `name` names the callback in the log, such as "HTTP/2 session listener".
 *
 * ```ts
 * session.on("goaway", guard("GOAWAY listener", (code) => ..., { recover: () => session.destroy() }))
 * ```
 */
export interface Guard {
  <Args extends ReadonlyArray<unknown>>(
    name: string,
    callback: (...args: Args) => void,
    onBug?: OnBug<Args>
  ): (...args: Args) => void
  /** For a callback on a hot path, which catches its exceptions itself: logs one, and runs the recovery; never throws. */
  readonly onException: <Args extends ReadonlyArray<unknown>>(
    name: string,
    exception: unknown,
    onBug?: OnBug<Args>,
    ...args: Args
  ) => void
}

const bugs = LogRateLimiter.make("exceptions of callbacks")

/** Makes a {@link Guard} that logs with the loggers of a context. Callbacks are called without a receiver (`this`). */
export const make = (context: Context.Context<never> = Context.empty()): Guard => {
  const runFork = Effect.runForkWith(context)

  const log = (name: string, annotations: Readonly<Record<string, unknown>>, exception: unknown) =>
    void runFork(
      bugs.log(
        Effect.annotateLogs(Effect.logError(`Exception in a callback: ${name}`, Cause.die(exception)), annotations)
      )
    )

  const onException: Guard["onException"] = (name, exception, { annotations, recover } = {}, ...args) => {
    log(name, attempt(() => annotations?.(...args)) ?? {}, exception)
    try {
      recover?.(...args)
    } catch (next) {
      log(`${name}, while recovering`, {}, next)
    }
  }

  const guard =
    <Args extends ReadonlyArray<unknown>>(name: string, callback: (...args: Args) => void, onBug?: OnBug<Args>) =>
    (...args: Args): void => {
      try {
        callback(...args)
      } catch (exception) {
        onException(name, exception, onBug, ...args)
      }
    }
  return Object.assign(guard, { onException })
}

const attempt = <A>(evaluate: () => A): A | undefined => {
  try {
    return evaluate()
  } catch {
    return undefined
  }
}
