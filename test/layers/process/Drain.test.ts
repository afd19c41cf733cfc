import { assert, describe, it } from "@effect/vitest"
import { Clock, ConfigProvider, Deferred, Duration, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"

import * as Drain from "../../../src/layers/process/Drain.ts"

/** Calls the process' listeners of a signal. */
const signal = (name: "SIGTERM" | "SIGINT") => Effect.sync(() => process.emit(name, name))

/** A layer that records when it opens and closes. */
const noting = (notes: Array<string>, name: string) =>
  Layer.effectDiscard(
    Effect.acquireRelease(
      Effect.sync(() => notes.push(`open ${name}`)),
      () => Effect.sync(() => notes.push(`close ${name}`))
    )
  )

const withSettings = (env: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))

describe("Drain.launch", () => {
  it.effect("keeps serving during the delay, then closes the outer layers first", () =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const opened = yield* Deferred.make<Drain.Drain["Service"]>()
      const closing = (name: string) =>
        Effect.gen(function* () {
          const { timeLeft } = yield* Drain.Drain
          yield* Effect.addFinalizer(() =>
            Effect.map(timeLeft, (left) => notes.push(`close ${name}, ${Duration.toMillis(left)} ms left`))
          )
        })
      const backend = Layer.effectDiscard(closing("backend"))
      const server = Layer.effectDiscard(
        Effect.gen(function* () {
          const drain = yield* Drain.Drain
          yield* closing("server")
          // takes five of the seven seconds
          yield* Effect.addFinalizer(() => Effect.sleep("5 seconds"))
          yield* Deferred.succeed(opened, drain)
        })
      ).pipe(Layer.provide(backend), Layer.provide(noting(notes, "catalogue")))
      const process = yield* Effect.forkChild(Drain.launch(server))

      const { isDraining, timeLeft } = yield* Deferred.await(opened)
      assert.isFalse(yield* isDraining)
      assert.strictEqual(Duration.toMillis(yield* timeLeft), 7_000)
      yield* signal("SIGTERM")
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(yield* isDraining)
      assert.deepStrictEqual(notes, ["open catalogue"])

      yield* TestClock.adjust("1 second")
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(process)
      assert.deepStrictEqual(notes, [
        "open catalogue",
        "close server, 2000 ms left",
        "close backend, 2000 ms left",
        "close catalogue"
      ])
    }).pipe(withSettings({ DRAIN_DELAY: "3s", DRAIN_TIMEOUT: "7s" }))
  )

  it.effect.each([{ jump: "-1 hour" }, { jump: "1 hour" }] as const)(
    "measures the time left by the monotonic clock when the wall clock jumps by $jump",
    ({ jump }) =>
      Effect.gen(function* () {
        const clock = yield* Clock.Clock
        let offset = 0
        const wall = Object.assign(Object.create(clock) as Clock.Clock, {
          currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + offset,
          currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + offset)
        })
        const opened = yield* Deferred.make<Drain.Drain["Service"]>()
        const server = Layer.effectDiscard(Effect.flatMap(Drain.Drain, (drain) => Deferred.succeed(opened, drain)))
        const process = yield* Effect.forkChild(Effect.provideService(Drain.launch(server), Clock.Clock, wall))
        const { awaitDraining, timeLeft } = yield* Deferred.await(opened)
        yield* signal("SIGTERM")
        yield* awaitDraining
        offset = Duration.toMillis(Duration.fromInputUnsafe(jump))
        const left = yield* Effect.provideService(timeLeft, Clock.Clock, wall)
        assert.strictEqual(Duration.toMillis(left), 10_000)
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.join(process)
      }).pipe(withSettings({ DRAIN_DELAY: "3s", DRAIN_TIMEOUT: "7s" }))
  )

  it.effect("interrupts the start at a signal", () =>
    Effect.gen(function* () {
      const notes: Array<string> = []
      const starting = yield* Deferred.make<void>()
      const server = Layer.effectDiscard(Effect.andThen(Deferred.succeed(starting, undefined), Effect.never)).pipe(
        Layer.provide(noting(notes, "catalogue"))
      )
      const process = yield* Effect.forkChild(Drain.launch(server))
      yield* Deferred.await(starting)
      yield* signal("SIGINT")
      yield* Fiber.join(process)
      assert.deepStrictEqual(notes, ["open catalogue", "close catalogue"])
    }).pipe(withSettings({ DRAIN_DELAY: "1 hour" }))
  )

  it.effect("fails with the error of the layer and removes its signal listeners", () =>
    Effect.gen(function* () {
      const before = process.listenerCount("SIGTERM")
      assert.strictEqual(yield* Effect.flip(Drain.launch(Layer.effectDiscard(Effect.fail("no")))), "no")
      assert.strictEqual(process.listenerCount("SIGTERM"), before)
    })
  )
})
