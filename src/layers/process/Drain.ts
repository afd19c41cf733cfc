/**
 * The lifecycle of a server process: it starts, receives a signal, drains and exits.
 *
 * A server is a layer whose finalizer waits for its calls in flight. The nesting of layers decides the order in which they close: a
 * server is provided with the layers it needs, so it closes before them. Merged layers close in parallel.
 */
import { Clock, Config, Context, Deferred, Duration, Effect, Layer } from "effect"

import * as Setting from "../config/Setting.ts"
import { exitOnUncaught } from "./runMain.ts"

/** How a process shuts down. */
export interface Settings {
  /** How long calls are still served normally after the signal, until load balancers notice that the process is not ready. */
  readonly delay: Duration.Duration
  /** How long calls in flight may take after the delay. Calls that are left then are interrupted. */
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

/** The state of the lifecycle. Servers and the admin port read it. */
export class Drain extends Context.Service<
  Drain,
  {
    /** Whether all layers are built. */
    readonly isStarted: Effect.Effect<boolean>
    /** Whether a signal has been received. */
    readonly isDraining: Effect.Effect<boolean>
    /** Completes when the signal is received. */
    readonly awaitDraining: Effect.Effect<void>
    /** The rest of the delay and the timeout, which all servers of a process share. The whole timeout before the signal. */
    readonly timeLeft: Effect.Effect<Duration.Duration>
  }
>()("layers/process/Drain") {
  /** For tests: never drains, and gives every layer that closes the whole timeout. */
  static readonly layerTest = (timeout: Duration.Duration = Duration.seconds(25)) =>
    Layer.succeed(Drain, {
      isStarted: Effect.succeed(true),
      isDraining: Effect.succeed(false),
      awaitDraining: Effect.never,
      timeLeft: Effect.succeed(timeout)
    })
}

/**
 * Builds a layer, keeps it until SIGTERM or SIGINT, waits for the delay and closes the layer. A second signal, at least a second after
 * the first, ends the process at once with the exit code of that signal (143 or 130).
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
    // a signal interrupts the build; nothing is served yet, so nothing is drained
    isStarted = yield* Layer.build(main).pipe(
      Effect.provideService(Drain, drain),
      Effect.as(true),
      Effect.raceFirst(Effect.as(signal, false))
    )
    const name = yield* signal
    if (!isStarted) return yield* Effect.logInfo(`${name} received during startup: exiting`)
    yield* Effect.logInfo(
      `${name} received: draining, with a delay of ${Duration.format(delay)} and a timeout of ${Duration.format(timeout)}`
    )
    deadline = (yield* monotonicMillis) + Duration.toMillis(delay) + Duration.toMillis(timeout)
    yield* Deferred.succeed(draining, undefined)
    yield* Effect.sleep(delay)
  }).pipe(Effect.scoped)

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const

/**
 * Signals within this many milliseconds of the first count as the same one. A signal to a process group (Ctrl-C in a terminal, the
 * stop of a container or a systemd unit) reaches a child of npm or `node --watch` twice: the parent is in the group and forwards it.
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

/** Milliseconds of the monotonic clock. */
const monotonicMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)
