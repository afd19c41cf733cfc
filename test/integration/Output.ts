/**
 * Runs processes and reads their output: of those that end by themselves, and of those in whose output a test waits for a text.
 */
import { Deferred, Effect, Fiber, type Scope, Stream } from "effect"
import { type ChildProcess, ChildProcessSpawner } from "effect/process"

const textOf = (stream: ChildProcessSpawner.ChildProcessHandle["all"]) => Stream.mkString(Stream.decodeText(stream))

/** Runs a command until it ends. `output` has stdout and stderr. */
export const run = Effect.fnUntraced(function* (command: ChildProcess.Command) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const { all, exitCode } = yield* spawner.spawn(command)
  return yield* Effect.all(
    { exitCode: Effect.map(exitCode, Number), output: textOf(all) },
    { concurrency: "unbounded" }
  )
}, Effect.scoped)

/** The same, with stdout and stderr apart. */
export const runApart = Effect.fnUntraced(function* (command: ChildProcess.Command) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const { exitCode, stderr, stdout } = yield* spawner.spawn(command)
  return yield* Effect.all(
    { exitCode: Effect.map(exitCode, Number), stdout: textOf(stdout), stderr: textOf(stderr) },
    { concurrency: "unbounded" }
  )
}, Effect.scoped)

/** The output of a process. */
export interface Output {
  /** The output so far, stdout and stderr. */
  readonly text: Effect.Effect<string>
  /** Waits until the output matches a pattern; fails the test if the process exits without it. */
  readonly match: (pattern: RegExp) => Effect.Effect<RegExpExecArray>
}

/** Follows a process until the scope closes. Errors call it by `name`. */
export const follow = Effect.fnUntraced(function* (
  name: string,
  { all }: ChildProcessSpawner.ChildProcessHandle
): Effect.fn.Return<Output, never, Scope.Scope> {
  let text = ""
  const waiting = new Set<() => void>()
  const reading = yield* all.pipe(
    Stream.decodeText(),
    Stream.runForEach((more) =>
      Effect.sync(() => {
        text += more
        waiting.forEach((check) => check())
      })
    ),
    Effect.forkScoped
  )
  const ended = Effect.andThen(
    Fiber.await(reading),
    Effect.suspend(() => Effect.die(new Error(`${name} ended: ${text}`)))
  )
  const match = Effect.fnUntraced(function* (pattern: RegExp) {
    const found = yield* Deferred.make<RegExpExecArray>()
    const check = () => {
      const result = pattern.exec(text)
      if (result !== null) Deferred.doneUnsafe(found, Effect.succeed(result))
    }
    waiting.add(check)
    check()
    return yield* Effect.raceFirst(Deferred.await(found), ended)
  })
  return { text: Effect.sync(() => text), match }
})
