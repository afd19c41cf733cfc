/**
 * What a process writes, as far as it has come, and somebody to wait for a part of it.
 */
import { Deferred, Effect, Fiber, type Scope, Stream } from "effect"
import type { ChildProcessSpawner } from "effect/process"

export interface Output {
  /** All that has been written so far, stderr included. */
  readonly text: Effect.Effect<string>
  /** Waits until something like that has been written, or fails the test when the process ends without. */
  readonly match: (pattern: RegExp) => Effect.Effect<RegExpExecArray>
}

/** Follows a process, which is called by a name in what tests say, until the scope closes. */
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
