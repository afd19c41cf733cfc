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

import * as Setting from "./Setting.ts"

/** How a process leaves. */
export interface Settings {
  /** How long calls are served as before, while load balancers notice that the process is about to leave. */
  readonly delay: Duration.Duration
  /** How long calls in flight may take after that; what is left then is cut. */
  readonly timeout: Duration.Duration
}

/** DRAIN_DELAY (0 seconds) and DRAIN_TIMEOUT (25 seconds). */
export const settings: Config.Config<Settings> = Config.all({
  delay: Setting.duration("DRAIN_DELAY", Duration.zero),
  timeout: Setting.duration("DRAIN_TIMEOUT", Duration.seconds(25))
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
>()("onlinebooks/layers/Drain") {
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
 * Builds a layer, keeps it until SIGTERM or SIGINT, waits for the delay, and closes it. A second signal ends the process
 * at once, with the exit code that the signal would have given it.
 */
export const launch = <A, E, R>(
  main: Layer.Layer<A, E, R>
): Effect.Effect<void, E | Config.ConfigError, Exclude<R, Drain>> =>
  Effect.gen(function* () {
    const { delay, timeout } = yield* settings
    const signal = Deferred.await(yield* firstSignal)
    const draining = yield* Deferred.make<void>()
    let isStarted = false
    let deadline: number | undefined
    const drain = Drain.of({
      isStarted: Effect.sync(() => isStarted),
      isDraining: Deferred.isDone(draining),
      awaitDraining: Deferred.await(draining),
      timeLeft: Effect.map(Clock.currentTimeMillis, (now) =>
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
    deadline = (yield* Clock.currentTimeMillis) + Duration.toMillis(delay) + Duration.toMillis(timeout)
    yield* Deferred.succeed(draining, undefined)
    yield* Effect.sleep(delay)
  }).pipe(Effect.scoped)

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const

const firstSignal = Effect.gen(function* () {
  const first = yield* Deferred.make<keyof typeof exitCodes>()
  const onSignal = (name: keyof typeof exitCodes) => {
    if (!Deferred.doneUnsafe(first, Effect.succeed(name))) process.exit(exitCodes[name])
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

/**
 * Runs a process' main effect. Success exits with 0. A failure that was foreseen (a bad setting, a port in use) is its
 * message on stderr and exit code 1; only a bug shows a stack.
 */
export const runMain = <E, A>(main: Effect.Effect<A, E>): void =>
  run(Effect.provideService(main, ConfigProvider.ConfigProvider, Setting.environment()), {
    disableErrorReporting: true
  })

const run = Runtime.makeRunMain(({ fiber }) => {
  // a reader of the output that goes away takes its lines with it, not the service
  process.stdout.on("error", () => {})
  process.stderr.on("error", () => {})
  fiber.addObserver((exit) => {
    // a pipe takes what it is given bit by bit, and exit drops what it has not taken yet
    const leave = (code: number) => process.stdout.write("", () => process.exit(code))
    if (exit._tag === "Success") leave(0)
    else process.stderr.write(`${explain(exit.cause)}\n`, () => leave(1))
    // a reader that has stopped reading does not keep it
    setTimeout(() => process.exit(exit._tag === "Success" ? 0 : 1), outputTimeout)
  })
})

/** How long the last lines have to be taken by whoever reads the output, in milliseconds. */
const outputTimeout = 2_000

const explain = (cause: Cause.Cause<unknown>): string =>
  Cause.findErrorOption(cause).pipe(
    Option.filter((error) => Predicate.hasProperty(error, "message")),
    Option.match({ onNone: () => Cause.pretty(cause), onSome: (error) => String(error.message) })
  )
