/**
 * The file descriptors of the process. Each connection needs one. When none is free, libuv closes new connections without an error
 * event in Node, so the process has to probe.
 */
import { close, open } from "node:fs"
import { readFile } from "node:fs/promises"
import { devNull } from "node:os"

import { Duration, Effect, Metric, Option, Schedule } from "effect"

import * as LogRateLimiter from "./LogRateLimiter.ts"

/** Descriptors that servers leave free for other uses: the admin port, files and outgoing connections. */
export const reserved = 64

/** The soft limit of open descriptors (RLIMIT_NOFILE). None on systems without /proc. */
export const limit: Effect.Effect<Option.Option<number>> = Effect.tryPromise(() =>
  readFile("/proc/self/limits", "utf8")
).pipe(
  Effect.map((limits) => Option.fromUndefinedOr(/^Max open files\s+(\d+)/m.exec(limits)?.[1]).pipe(Option.map(Number))),
  Effect.orElseSucceed(Option.none)
)

/** Counts probes that found no free descriptor. */
export const exhausted = Metric.counter("process_fds_exhausted_total", {
  description: "Probes that found no free file descriptor; new connections are closed meanwhile",
  incremental: true
})

/** Opens a file. Some is the error code if that fails: EMFILE is the limit of the process, ENFILE that of the machine. */
const probe = Effect.callback<Option.Option<string>>((resume) => {
  open(devNull, "r", (error, descriptor) => {
    if (error === null) close(descriptor, () => resume(Effect.succeedNone))
    else resume(Effect.succeedSome(error.code ?? error.message))
  })
})

/** Probes every second. Without a free descriptor it logs an error and increases {@link exhausted}. Never ends. */
export const watch = (run: Effect.Effect<Option.Option<string>> = probe): Effect.Effect<never> => {
  const lines = LogRateLimiter.make("probes without a free file descriptor", 1)
  const check = Effect.flatMap(
    run,
    Option.match({
      onNone: () => Effect.void,
      onSome: (code) =>
        Effect.andThen(
          Metric.update(exhausted, 1),
          lines.log(Effect.logError(`Out of file descriptors (${code}): the system closes new connections`))
        )
    })
  )
  return Effect.andThen(Metric.update(exhausted, 0), Effect.repeat(check, Schedule.spaced(Duration.seconds(1)))).pipe(
    Effect.andThen(Effect.never)
  )
}
