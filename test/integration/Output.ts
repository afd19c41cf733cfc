/**
 * Follows the output of a process, and waits for text in it.
 */
import { Deferred, Effect, Fiber, type Scope, Stream } from "effect"
import type { ChildProcessSpawner } from "effect/process"

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
