/**
 * The file descriptors of the process, of which every connection takes one. When there are no more, libuv closes new connections
 * without a word to Node, so whether there are any has to be asked.
 */
import { close, open } from "node:fs"
import { readFile } from "node:fs/promises"
import { devNull } from "node:os"

import { Duration, Effect, Metric, Option, Schedule } from "effect"

import * as LogRateLimiter from "./LogRateLimiter.ts"

/** Descriptors that are kept for what is no connection of a server's: the admin port, files, connections to others. */
export const reserved = 64

/** How many descriptors the process may have; none where the system does not say so in /proc. */
export const limit: Effect.Effect<Option.Option<number>> = Effect.tryPromise(() =>
  readFile("/proc/self/limits", "utf8")
).pipe(
  Effect.map((limits) => Option.fromUndefinedOr(/^Max open files\s+(\d+)/m.exec(limits)?.[1]).pipe(Option.map(Number))),
  Effect.orElseSucceed(Option.none)
)

/** How many times the process was found without a descriptor left. */
export const exhausted = Metric.counter("process_fds_exhausted_total", {
  description: "How many times the process was found without a file descriptor left; new connections are closed then",
  incremental: true
})

/** Whether one more file can be opened, or the system's error if not: EMFILE for the process, ENFILE for all of the machine. */
const probe = Effect.callback<Option.Option<string>>((resume) => {
  open(devNull, "r", (error, descriptor) => {
    if (error === null) close(descriptor, () => resume(Effect.succeedNone))
    else resume(Effect.succeedSome(error.code ?? error.message))
  })
})

/** Asks every second whether a descriptor is left, and tells the log and {@link exhausted} if none is. Never ends. */
export const watch = (ask: Effect.Effect<Option.Option<string>> = probe): Effect.Effect<never> => {
  const lines = LogRateLimiter.make("checks that found no file descriptor left", 1)
  const check = Effect.flatMap(
    ask,
    Option.match({
      onNone: () => Effect.void,
      onSome: (code) =>
        Effect.andThen(
          Metric.update(exhausted, 1),
          lines.log(Effect.logError(`No file descriptor is left (${code}): new connections are closed by the system`))
        )
    })
  )
  return Effect.andThen(Metric.update(exhausted, 0), Effect.repeat(check, Schedule.spaced(Duration.seconds(1)))).pipe(
    Effect.andThen(Effect.never)
  )
}
