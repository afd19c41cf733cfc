import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"

import { RequestAnnotations } from "../../../src/layers/telemetry/logFormat.ts"
import * as LogRateLimiter from "../../../src/layers/telemetry/LogRateLimiter.ts"
import * as Logs from "./Logs.ts"

/** Runs a test with a function that returns the messages logged since its last call. */
const logging = <A, E>(test: (logged: () => ReadonlyArray<unknown>) => Effect.Effect<A, E>) => {
  const logs = Logs.recorder()
  const logged = () => {
    const lines = logs.lines().map(({ message }) => message)
    logs.clear()
    return lines
  }
  return Effect.provide(test(logged), logs.layer)
}

describe("LogRateLimiter", () => {
  it.effect("logs the first events of a second and counts the others at its end", () =>
    logging((logged) =>
      Effect.gen(function* () {
        const { log } = LogRateLimiter.make("events", 2)
        const event = log(Effect.logInfo("event"))
        yield* Effect.replicateEffect(event, 2)
        yield* TestClock.adjust("1 second")
        // exactly the limit suppresses nothing
        assert.deepStrictEqual(logged(), ["event", "event"])
        yield* Effect.replicateEffect(event, 5)
        assert.deepStrictEqual(logged(), ["event", "event"])
        // the report does not depend on further events
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(logged(), ["3 log lines suppressed in the last second: events"])
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual(logged(), [])
        yield* event
        assert.deepStrictEqual(logged(), ["event"])
      })
    )
  )

  it.effect("limits each kind of event by itself", () =>
    logging((logged) =>
      Effect.gen(function* () {
        const calls = LogRateLimiter.make("calls", 1)
        const requests = LogRateLimiter.make("requests", 1)
        for (let i = 0; i < 3; i++) {
          yield* calls.log(Effect.logInfo("call"))
          yield* requests.log(Effect.logInfo("request"))
        }
        assert.deepStrictEqual(logged(), ["call", "request"])
      })
    )
  )

  it.effect("does not evaluate suppressed lines", () =>
    logging(() =>
      Effect.gen(function* () {
        const { log } = LogRateLimiter.make("events", 1)
        let made = 0
        const line = Effect.sync(() => void made++)
        yield* Effect.replicateEffect(log(line), 10, { discard: true })
        assert.strictEqual(made, 1)
      })
    )
  )

  it.effect("logs the count outside the span and the request of the first event", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const { log } = LogRateLimiter.make("events", 1)
      yield* Effect.replicateEffect(log(Effect.logInfo("event")), 2).pipe(
        Effect.withSpan("span"),
        Effect.provideService(RequestAnnotations, () => ({ peer: "127.0.0.1:1" }))
      )
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        logs.lines().map(({ annotations, message }) => [message, Object.keys(annotations)]),
        [
          ["event", ["trace_id", "span_id", "peer"]],
          ["1 log lines suppressed in the last second: events", []]
        ]
      )
    }).pipe(Effect.provide(logs.layer))
  })
})
