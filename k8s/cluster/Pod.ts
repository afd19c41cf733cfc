/**
 * A pod of the cluster in little: a process at an address of its own, and beside it what a kubelet does for one. It probes it,
 * restarts it when it ends or hangs, and asks it to leave.
 */
import {
  Clock,
  Console,
  Deferred,
  Duration,
  Effect,
  Fiber,
  Option,
  Ref,
  Result,
  Schedule,
  type Scope,
  Stream,
  SubscriptionRef
} from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import type { Probe, Workload } from "./Manifests.ts"

/** How a pod that was told to leave has left. */
export interface Ending {
  /** Whether its process ended by itself with exit code 0; or there was none, since it had ended before. */
  readonly isOrderly: boolean
  readonly took: Duration.Duration
}

export interface Pod {
  readonly name: string
  readonly address: string
  /** Which version of its Deployment's template it was made from. */
  readonly revision: number
  /** Since when it is ready, in milliseconds; none while it is not. */
  readonly readySince: Effect.Effect<Option.Option<number>>
  /** Kills its process without a word, as the kernel does when it is out of memory. Waits until the kubelet has noticed. */
  readonly crash: Effect.Effect<void>
  /** Withdraws it, and asks its process to leave at the same moment; after the grace it is killed. Waits until it is gone. */
  readonly terminate: Effect.Effect<Ending>
  /** The warnings and errors that it has written. */
  readonly complaints: Effect.Effect<ReadonlyArray<string>>
}

/** Where a pod runs, and what its process is told. */
export interface Placement {
  readonly name: string
  readonly address: string
  readonly revision: number
  /** What Node runs. */
  readonly file: string
  readonly environment: { readonly [variable: string]: string }
}

/** A kubelet looks at its containers once a second. */
const relist = Duration.seconds(1)

/** What a kubelet waits before it starts a container again: nothing at first, then 10 seconds and twice as long each time. */
const backoff = (restarts: number): Duration.Duration =>
  restarts === 0 ? Duration.zero : Duration.seconds(Math.min(300, 10 * 2 ** (restarts - 1)))

/** How many of its last lines are shown of a container that has ended by itself. */
const lastLines = 10

/**
 * Starts a pod. `onChange` is run whenever it has become ready, or is so no more. Its process is killed with the scope, if it
 * has not left before.
 */
export const start = Effect.fnUntraced(function* (
  { address, environment, file, name, revision }: Placement,
  { grace, liveness, readiness, startup }: Workload,
  onChange: Effect.Effect<void>
): Effect.fn.Return<Pod, never, Scope.Scope | ChildProcessSpawner.ChildProcessSpawner | HttpClient.HttpClient> {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const client = yield* HttpClient.HttpClient
  const complaints: Array<string> = []
  const readySince = yield* Ref.make(Option.none<number>())
  /** How often it has been seen to have ended. */
  const ends = yield* SubscriptionRef.make(0)
  const container = yield* Ref.make(Option.none<ChildProcessSpawner.ChildProcessHandle>())
  const leaving = yield* Deferred.make<void>()
  const untilLeaving = Deferred.await(leaving)

  const setReady = Effect.fnUntraced(function* (isReady: boolean) {
    const wasReady = Option.isSome(yield* Ref.get(readySince))
    // who has been told to leave is ready no more, whatever it answers
    if (wasReady === isReady || (isReady && (yield* Deferred.isDone(leaving)))) return
    yield* Ref.set(readySince, isReady ? Option.some(yield* Clock.currentTimeMillis) : Option.none())
    yield* onChange
  })

  /** Asks once. A kubelet counts 200 to 399, and keeps no connection. */
  const ask = ({ path, port, timeout }: Probe) =>
    HttpClientRequest.get(`http://${address}:${port}${path}`, { headers: { connection: "close" } }).pipe(
      client.execute,
      Effect.map(({ status }) => status >= 200 && status < 400),
      Effect.timeout(timeout),
      Effect.orElseSucceed(() => false),
      Effect.scoped
    )

  /** The results of a probe: one each time that enough successes, or failures, have come in a row. */
  const results = (probe: Probe) =>
    Stream.fromEffectSchedule(ask(probe), Schedule.fixed(probe.period)).pipe(
      Stream.scan(
        () => ({ isSuccess: true, row: 0 }),
        (last, isSuccess) => ({
          isSuccess,
          row: isSuccess === last.isSuccess ? last.row + 1 : 1
        })
      ),
      Stream.filter(({ isSuccess, row }) => row >= (isSuccess ? probe.successThreshold : probe.failureThreshold)),
      Stream.map(({ isSuccess }) => isSuccess),
      (results) => Stream.concat(Stream.fromEffectDrain(Effect.sleep(probe.initialDelay)), results)
    )

  const first = (probe: Probe, isWanted: (isSuccess: boolean) => boolean) =>
    results(probe).pipe(
      Stream.filter(isWanted),
      Stream.take(1),
      Stream.runHead,
      Effect.map(Option.getOrElse(() => false))
    )

  /** Probes a container until it has to be started again, and says why. */
  const probing = Effect.gen(function* () {
    if (startup !== undefined && !(yield* first(startup, () => true))) return "it did not start in time"
    // goes on while the container leaves
    yield* (readiness === undefined ? setReady(true) : Stream.runForEach(results(readiness), setReady)).pipe(
      Effect.forkScoped
    )
    if (liveness === undefined) return yield* Effect.never
    yield* first(liveness, (isSuccess) => !isSuccess)
    return "it does not answer its liveness probe"
  })

  /** Runs the container once, until it ends, and gives its exit code. One that is killed has none. */
  const life = Effect.gen(function* () {
    const handle = yield* spawner.spawn(
      ChildProcess.make(process.execPath, [file], {
        env: environment,
        extendEnv: false,
        stdin: "ignore",
        forceKillAfter: "1 second"
      })
    )
    yield* Ref.set(container, Option.some(handle))
    const lines: Array<string> = []
    yield* handle.all.pipe(
      Stream.decodeText(),
      Stream.splitLines,
      Stream.runForEach((line) =>
        Effect.sync(() => {
          if (/"level":"(WARN|ERROR|FATAL)"/.test(line)) complaints.push(line)
          lines.push(line)
          lines.splice(0, lines.length - lastLines)
        })
      ),
      Effect.ignore,
      Effect.forkScoped
    )
    const exit = Effect.map(Effect.result(handle.exitCode), Result.getSuccess)
    const reason = yield* Effect.raceFirst(
      Effect.as(exit, Option.none<string>()),
      Effect.raceFirst(Effect.as(untilLeaving, Option.some("it was told to")), Effect.asSome(probing))
    )
    // the only place that asks it to leave: a service takes a second signal for an order to end at once
    if (Option.isSome(reason)) yield* Effect.ignore(handle.kill({ killSignal: "SIGTERM", forceKillAfter: grace }))
    const exitCode = yield* exit
    if (!(yield* Deferred.isDone(leaving))) {
      const how = Option.getOrElse(reason, () =>
        Option.match(exitCode, { onNone: () => "it was killed", onSome: (code) => `it ended with ${code}` })
      )
      yield* Console.log(`  ${name} is started again: ${how}`)
      if (Option.isSome(exitCode)) for (const line of lines) yield* Console.log(`    ${line}`)
    }
    return exitCode
  }).pipe(
    Effect.scoped,
    Effect.ensuring(Ref.set(container, Option.none())),
    // no process can be started at all
    Effect.orDie
  )

  /** Runs the container again and again, until the pod is told to leave. */
  const kubelet = Effect.gen(function* () {
    while (true) {
      const exitCode = yield* life
      if (yield* Deferred.isDone(leaving)) return Option.getOrUndefined(exitCode) === 0
      yield* Effect.sleep(relist)
      yield* setReady(false)
      const restarts = yield* SubscriptionRef.getAndUpdate(ends, (ends) => ends + 1)
      yield* Effect.raceFirst(Effect.sleep(backoff(restarts)), untilLeaving)
      if (yield* Deferred.isDone(leaving)) return true
    }
  })
  const running = yield* Effect.forkScoped(kubelet)

  const crash = Effect.gen(function* () {
    const handle = yield* Ref.get(container)
    if (Option.isNone(handle)) return
    const before = yield* SubscriptionRef.get(ends)
    yield* Effect.ignore(handle.value.kill({ killSignal: "SIGKILL" }))
    yield* SubscriptionRef.changes(ends).pipe(
      Stream.filter((ends) => ends > before),
      Stream.take(1),
      Stream.runDrain
    )
  })

  const terminate = Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    yield* Deferred.succeed(leaving, undefined)
    yield* setReady(false)
    const isOrderly = yield* Fiber.join(running)
    return { isOrderly, took: Duration.millis((yield* Clock.currentTimeMillis) - began) }
  })

  return {
    name,
    address,
    revision,
    readySince: Ref.get(readySince),
    crash,
    terminate,
    complaints: Effect.sync(() => [...complaints])
  }
})
