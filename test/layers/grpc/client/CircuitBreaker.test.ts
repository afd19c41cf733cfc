/**
 * The circuit breaker without a network. The tests decide how calls end.
 */
import { assert, describe, it, vi } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber } from "effect"

import * as CircuitBreaker from "../../../../src/layers/grpc/client/CircuitBreaker.ts"
import { GrpcError } from "../../../../src/layers/grpc/GrpcError.ts"
import * as Status from "../../../../src/layers/grpc/Status.ts"

const fails = (reason: Status.Status) => Effect.fail(new GrpcError({ method: "Echo", reason }))

const unavailable = fails(Status.unavailable("down"))
const succeeds = Effect.succeed("OK")

/** A circuit breaker that opens after two consecutive failures. A call succeeds with its outcome, or "refused". */
const make = (openDuration: Duration.Input) =>
  Effect.map(
    CircuitBreaker.make({
      target: "books",
      service: "Books",
      failures: 2,
      openDuration: Duration.fromInputUnsafe(openDuration)
    }),
    (circuit) =>
      (call: Effect.Effect<string, GrpcError>, deadline = Infinity) =>
        Effect.match(
          circuit({ deadline, definition: { path: "/Books/Echo" } }, () => call),
          {
            onSuccess: (text) => text,
            onFailure: ({ reason }) =>
              reason.message === "Circuit breaker is open for books" ? "refused" : reason.message
          }
        )
  )

/** Starts a call that the test ends. */
const begin = Effect.fnUntraced(function* (call: (effect: Effect.Effect<string, GrpcError>) => Effect.Effect<string>) {
  const answer = yield* Deferred.make<string, GrpcError>()
  const fiber = yield* Effect.forkChild(call(Deferred.await(answer)), { startImmediately: true })
  return {
    end: (outcome: Effect.Effect<string, GrpcError>) =>
      Effect.andThen(Deferred.complete(answer, outcome), Fiber.join(fiber)),
    interrupt: Fiber.interrupt(fiber)
  }
})

describe("CircuitBreaker", () => {
  it.effect("opens after consecutive failures only", () =>
    Effect.gen(function* () {
      const call = yield* make("1 hour")
      for (let round = 0; round < 5; round++) {
        assert.strictEqual(yield* call(unavailable), "down")
        assert.strictEqual(yield* call(succeeds), "OK")
      }
      yield* call(unavailable)
      yield* call(unavailable)
      assert.strictEqual(yield* call(succeeds), "refused")
    })
  )

  it.effect("stays closed while calls in flight fail and succeed in turn", () =>
    Effect.gen(function* () {
      const call = yield* make("1 hour")
      const calls = yield* Effect.replicateEffect(begin(call), 12)
      for (const [index, { end }] of calls.entries()) yield* end(index % 2 === 0 ? unavailable : succeeds)
      assert.strictEqual(yield* call(succeeds), "OK")
    })
  )

  it.effect("counts UNAVAILABLE and DEADLINE_EXCEEDED only", () =>
    Effect.gen(function* () {
      const call = yield* make("1 hour")
      const busy = fails(Status.resourceExhausted("busy"))
      for (const answer of [fails(Status.invalidArgument([])), busy, fails(Status.internal("bug"))]) {
        for (let count = 0; count < 5; count++) yield* call(answer)
      }
      // neither a success nor a failure
      yield* call(unavailable)
      yield* call(busy)
      yield* (yield* begin(call)).interrupt
      yield* call(fails(Status.deadlineExceeded("late")))
      assert.strictEqual(yield* call(succeeds), "refused")
    })
  )

  it.effect("does not count an expired deadline that a busy process notices late", () =>
    Effect.gen(function* () {
      const call = yield* make("1 hour")
      const late = fails(Status.deadlineExceeded("late"))
      for (let count = 0; count < 5; count++) yield* call(late, performance.now() - 1_000)
      assert.strictEqual(yield* call(succeeds), "OK")
      for (let count = 0; count < 2; count++) yield* call(late, performance.now())
      assert.strictEqual(yield* call(succeeds), "refused")
    })
  )

  it.effect("allows one probe at a time", () =>
    Effect.gen(function* () {
      const call = yield* make(0)
      yield* call(unavailable)
      yield* call(unavailable)
      const probe = yield* begin(call)
      assert.strictEqual(yield* call(succeeds), "refused")
      assert.strictEqual(yield* probe.end(succeeds), "OK")
      assert.strictEqual(yield* call(succeeds), "OK")
    })
  )

  it.effect("stays open for another openDuration if the probe fails", () =>
    Effect.gen(function* () {
      const now = vi.spyOn(performance, "now").mockReturnValue(0)
      yield* Effect.addFinalizer(() => Effect.sync(() => now.mockRestore()))
      const call = yield* make("1 second")
      yield* call(unavailable)
      yield* call(unavailable)
      now.mockReturnValue(1000)
      assert.strictEqual(yield* call(unavailable), "down")
      now.mockReturnValue(1999)
      assert.strictEqual(yield* call(succeeds), "refused")
      now.mockReturnValue(2000)
      assert.strictEqual(yield* call(succeeds), "OK")
    })
  )

  it.effect("probes with the next call if a probe was interrupted or shed", () =>
    Effect.gen(function* () {
      const call = yield* make(0)
      yield* call(unavailable)
      yield* call(unavailable)
      yield* (yield* begin(call)).interrupt
      assert.strictEqual(yield* call(fails(Status.resourceExhausted("busy"))), "busy")
      const probe = yield* begin(call)
      assert.strictEqual(yield* call(succeeds), "refused")
      yield* probe.end(succeeds)
      assert.strictEqual(yield* call(succeeds), "OK")
    })
  )

  it.effect("closes when a call that started before it opened succeeds", () =>
    Effect.gen(function* () {
      const call = yield* make("1 hour")
      const early = yield* begin(call)
      yield* call(unavailable)
      yield* call(unavailable)
      assert.strictEqual(yield* call(succeeds), "refused")
      assert.strictEqual(yield* early.end(succeeds), "OK")
      assert.strictEqual(yield* call(succeeds), "OK")
    })
  )
})
