/**
 * A pod of the cluster in little: a process at an address of its own, and beside it what a kubelet does for one. It probes it,
 * restarts it when it ends or hangs, and asks it to leave.
 */
import { Clock, Duration, Effect, Option, Queue, Result, type Scope, Stream } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import type { Probe, Workload } from "./Manifests.ts"

/** How a pod that was told to leave has left. */
export interface Ending {
  readonly pod: string
  /** None for a process that had to be killed. */
  readonly exitCode: Option.Option<number>
  readonly took: Duration.Duration
}

export interface Pod {
  readonly name: string
  readonly address: string
  /** Which version of its Deployment's template it was made from. */
  readonly revision: number
  /** Since when it is ready, in milliseconds; undefined while it is not. */
  readonly readySince: () => number | undefined
  /** How often its process has been started again. */
  readonly restarts: () => number
  /** Kills its process, without a word: as the kernel does when it is out of memory. Waits until a kubelet has noticed. */
  readonly crash: Effect.Effect<void>
  /** Withdraws it, and asks its process to leave at the same moment; after the grace it is killed. Waits until it is gone. */
  readonly terminate: Effect.Effect<Ending>
  /** The warnings and errors that it has written, its last lines if it ended by itself. */
  readonly complaints: () => ReadonlyArray<string>
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

/**
 * Starts a pod. `onChange` is run whenever it has become ready, or is so no more. Its process is killed with the scope, if it
 * has not left before.
 */
export const start = Effect.fnUntraced(function* (
  { environment, file, name, address, revision }: Placement,
  { grace, liveness, readiness, startup }: Workload,
  onChange: Effect.Effect<void>
): Effect.fn.Return<Pod, never, Scope.Scope | ChildProcessSpawner.ChildProcessSpawner | HttpClient.HttpClient> {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const client = yield* HttpClient.HttpClient
  const complaints: Array<string> = []
  /** Where the kubelet says that the process has ended. */
  const noticed = yield* Queue.sliding<void>(1)
  let readySince: number | undefined
  let restarts = 0
  let isTerminating = false
  let running: ChildProcessSpawner.ChildProcessHandle | undefined

  const setReady = Effect.fnUntraced(function* (isReady: boolean) {
    if (isReady === (readySince !== undefined) || (isReady && isTerminating)) return
    readySince = isReady ? yield* Clock.currentTimeMillis : undefined
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

  /** Asks again and again; tells when so many successes or failures have come in a row that it changes its mind. */
  const watch = (probe: Probe, onResult: (isSuccess: boolean) => Effect.Effect<boolean>) =>
    Effect.gen(function* () {
      yield* Effect.sleep(probe.initialDelay)
      let row = 0
      let last: boolean | undefined
      while (true) {
        const isSuccess = yield* ask(probe)
        row = isSuccess === last ? row + 1 : 1
        last = isSuccess
        const isEnough = row >= (isSuccess ? probe.successThreshold : probe.failureThreshold)
        if (isEnough && (yield* onResult(isSuccess))) return isSuccess
        yield* Effect.sleep(probe.period)
      }
    })

  const untilStarted = startup === undefined ? Effect.succeed(true) : watch(startup, () => Effect.succeed(true))
  const whileReady =
    readiness === undefined
      ? Effect.andThen(setReady(true), Effect.never)
      : watch(readiness, (isSuccess) => Effect.as(setReady(isSuccess), false))
  const untilDead = liveness === undefined ? Effect.never : watch(liveness, (isSuccess) => Effect.succeed(!isSuccess))

  /** Ends when the container has to be started again. */
  const probes = Effect.gen(function* () {
    if (!(yield* untilStarted)) return "it did not start in time"
    yield* Effect.raceFirst(whileReady, untilDead)
    // who has been told to leave is given the grace, whatever it answers
    return isTerminating ? yield* Effect.never : "it does not answer its liveness probe"
  })

  const exitOf = (handle: ChildProcessSpawner.ChildProcessHandle) =>
    // one that was killed has no exit code
    Effect.map(Effect.result(handle.exitCode), Result.getSuccess)

  /** Asks a process to leave, and kills it when it has not after the grace. */
  const leave = (handle: ChildProcessSpawner.ChildProcessHandle) =>
    Effect.gen(function* () {
      yield* Effect.ignore(handle.kill({ killSignal: "SIGTERM", forceKillAfter: grace }))
      return yield* exitOf(handle)
    })

  const container = Effect.gen(function* () {
    const handle = yield* spawner.spawn(
      ChildProcess.make(process.execPath, [file], {
        env: environment,
        extendEnv: false,
        stdin: "ignore",
        forceKillAfter: "1 second"
      })
    )
    running = handle
    const lines: Array<string> = []
    yield* handle.all.pipe(
      Stream.decodeText(),
      Stream.splitLines,
      Stream.runForEach((line) =>
        Effect.sync(() => {
          if (/"level":"(WARN|ERROR|FATAL)"/.test(line)) complaints.push(line)
          if (lines.push(line) > 10) lines.shift()
        })
      ),
      Effect.ignore,
      Effect.forkScoped
    )
    const reason = yield* Effect.raceFirst(
      Effect.map(exitOf(handle), (exitCode) => Option.getOrElse(exitCode, () => "a signal")),
      probes
    )
    yield* leave(handle)
    if (!isTerminating) complaints.push(...lines, `${name} is started again: ended by ${reason}`)
  }).pipe(
    Effect.scoped,
    Effect.catch(({ message }) => Effect.sync(() => complaints.push(message)))
  )

  const kubelet = Effect.gen(function* () {
    yield* container
    yield* Effect.sleep(relist)
    yield* setReady(false)
    yield* Queue.offer(noticed, undefined)
    yield* Effect.sleep(backoff(restarts))
    restarts++
  }).pipe(Effect.repeat({ while: () => !isTerminating }))
  yield* Effect.forkScoped(kubelet)

  return {
    name,
    address,
    revision,
    readySince: () => readySince,
    restarts: () => restarts,
    complaints: () => complaints,
    crash: Effect.suspend(() =>
      running === undefined
        ? Effect.void
        : Effect.andThen(Effect.ignore(running.kill({ killSignal: "SIGKILL" })), Queue.take(noticed))
    ),
    terminate: Effect.gen(function* () {
      isTerminating = true
      const began = yield* Clock.currentTimeMillis
      yield* setReady(false)
      const exitCode = running === undefined ? Option.none() : yield* leave(running)
      return { pod: name, exitCode, took: Duration.millis((yield* Clock.currentTimeMillis) - began) }
    })
  }
})
