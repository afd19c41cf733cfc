/**
 * The life of a process that serves: it starts, is asked to stop, finishes what it has begun, and exits.
 *
 * A server is a layer that finishes its calls when it closes. What must outlive what is read from the nesting: a server is
 * provided with what it needs, so that it closes first. Layers that are merged close at the same time.
 */
import {
  Cause,
  Clock,
  Config,
  ConfigProvider,
  Context,
  Deferred,
  Duration,
  Effect,
  Layer,
  Option,
  Predicate,
  Runtime
} from "effect"

import * as Setting from "../config/Setting.ts"
import * as Callback from "../telemetry/Callback.ts"
import * as LogOutput from "../telemetry/LogOutput.ts"

/** How a process leaves. */
export interface Settings {
  /** How long calls are served as before, while load balancers notice that the process is about to leave. */
  readonly delay: Duration.Duration
  /** How long calls in flight may take after that; what is left then is cut. */
  readonly timeout: Duration.Duration
}

/** DRAIN_DELAY and DRAIN_TIMEOUT. */
export const settings: Config.Config<Settings> = Config.all({
  delay: Setting.duration("DRAIN_DELAY", {
    description:
      "How long a service goes on as before after SIGTERM or SIGINT, while load balancers notice that it is not ready.",
    default: Duration.zero,
    maximum: "1 day"
  }),
  timeout: Setting.duration("DRAIN_TIMEOUT", {
    description: "How long requests in flight may take after `DRAIN_DELAY`; what is left then is cut.",
    default: Duration.seconds(25),
    maximum: "1 day"
  })
})

export class Drain extends Context.Service<
  Drain,
  {
    /** Whether everything has started. */
    readonly isStarted: Effect.Effect<boolean>
    /** Whether the process has been asked to stop. */
    readonly isDraining: Effect.Effect<boolean>
    /** Waits until it is. */
    readonly awaitDraining: Effect.Effect<void>
    /** How long calls in flight may still take; all servers of a process share it. */
    readonly timeLeft: Effect.Effect<Duration.Duration>
  }
>()("layers/process/Drain") {
  /** Is never asked to stop, and gives every layer that closes the whole time-out. */
  static readonly layerTest = (timeout: Duration.Duration = Duration.seconds(25)) =>
    Layer.succeed(Drain, {
      isStarted: Effect.succeed(true),
      isDraining: Effect.succeed(false),
      awaitDraining: Effect.never,
      timeLeft: Effect.succeed(timeout)
    })
}

/**
 * Builds a layer, keeps it until SIGTERM or SIGINT, waits for the delay, and closes it. Another signal, a second
 * later or more, ends the process at once, with the exit code that the signal would have given it.
 */
export const launch = <A, E, R>(
  main: Layer.Layer<A, E, R>
): Effect.Effect<void, E | Config.ConfigError, Exclude<R, Drain>> =>
  Effect.gen(function* () {
    const { delay, timeout } = yield* settings
    yield* exitOnUncaught
    const signal = Deferred.await(yield* firstSignal)
    const draining = yield* Deferred.make<void>()
    let isStarted = false
    let deadline: number | undefined
    const drain = Drain.of({
      isStarted: Effect.sync(() => isStarted),
      isDraining: Deferred.isDone(draining),
      awaitDraining: Deferred.await(draining),
      timeLeft: Effect.map(monotonicMillis, (now) =>
        deadline === undefined ? timeout : Duration.millis(Math.max(0, deadline - now))
      )
    })
    // a signal that comes while the layer is being built stops the building, and nobody has to be told
    isStarted = yield* Layer.build(main).pipe(
      Effect.provideService(Drain, drain),
      Effect.as(true),
      Effect.raceFirst(Effect.as(signal, false))
    )
    const name = yield* signal
    if (!isStarted) return yield* Effect.logInfo(`${name}: leaving before the start is complete`)
    yield* Effect.logInfo(
      `${name}: draining; calls in flight have ${Duration.format(timeout)}, after a delay of ${Duration.format(delay)}`
    )
    deadline = (yield* monotonicMillis) + Duration.toMillis(delay) + Duration.toMillis(timeout)
    yield* Deferred.succeed(draining, undefined)
    yield* Effect.sleep(delay)
  }).pipe(Effect.scoped)

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const

/**
 * Signals within this many milliseconds of the first are taken for the same one. A signal for a whole process group (Ctrl-C on
 * a terminal, a container or a unit that is stopped) reaches a process twice if npm or `node --watch` is its parent: they are
 * in the group too, and pass on what they get.
 */
const repeatWindow = 1_000

const firstSignal = Effect.gen(function* () {
  const first = yield* Deferred.make<keyof typeof exitCodes>()
  let firstAt = 0
  const onSignal = (name: keyof typeof exitCodes) => {
    if (Deferred.doneUnsafe(first, Effect.succeed(name))) firstAt = performance.now()
    else if (performance.now() - firstAt > repeatWindow) process.exit(exitCodes[name])
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      process.on("SIGINT", onSignal)
      process.on("SIGTERM", onSignal)
    }),
    () =>
      Effect.sync(() => {
        process.off("SIGINT", onSignal)
        process.off("SIGTERM", onSignal)
      })
  )
  return first
})

/** Milliseconds by a clock that nobody sets. */
const monotonicMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

/**
 * Logs what nobody caught (a rejected promise too), for as long as the scope is open, and ends the process with exit code 1 at once:
 * nobody knows what state it is in.
 */
const exitOnUncaught = Effect.gen(function* () {
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const onUncaught = (error: unknown, origin: NodeJS.UncaughtExceptionOrigin) => {
    try {
      const line = Effect.logFatal("Uncaught exception: the process exits", Cause.die(error))
      runFork(Effect.annotateLogs(line, { origin }))
    } finally {
      // its listeners write what the log has not written yet
      process.exit(1)
    }
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("uncaughtException", onUncaught)),
    () => Effect.sync(() => process.off("uncaughtException", onUncaught))
  )
})

/**
 * Runs a process' main effect. Success exits with 0. A failure that was foreseen (a bad setting, a port in use) is its
 * message on stderr and exit code 1; only a bug shows a stack.
 */
export const runMain = <E, A>(main: Effect.Effect<A, E>): void =>
  run(Effect.provideService(main, ConfigProvider.ConfigProvider, Setting.environment()), {
    disableErrorReporting: true
  })

const run = Runtime.makeRunMain(({ fiber }) => {
  const [stdout, stderr] = [LogOutput.stdout(), LogOutput.stderr()]
  fiber.addObserver((exit) => {
    const code = exit._tag === "Success" ? 0 : 1
    // a pipe takes what it is given bit by bit, and an exit drops what it has not taken yet
    const leave = guard("last log line", () => stdout.flush(() => stderr.flush(() => process.exit(code))))
    if (exit._tag === "Success") leave()
    // of a bad catalogue every row is told, which is more than an output has room for
    else process.stderr.write(`${explain(exit.cause)}\n`, leave)
    // a reader that has stopped reading does not keep it
    setTimeout(
      guard("exit", () => process.exit(code)),
      outputTimeout
    )
  })
})

const guard = Callback.make()

/** How long the last lines have to be taken by whoever reads the output, in milliseconds. */
const outputTimeout = 2_000

const explain = (cause: Cause.Cause<unknown>): string =>
  Cause.findErrorOption(cause).pipe(
    Option.filter((error) => Predicate.hasProperty(error, "message")),
    Option.match({ onNone: () => Cause.pretty(cause), onSome: (error) => String(error.message) })
  )
