import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Schema } from "effect"

import * as GroupCommit from "../../../src/layers/sql/GroupCommit.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { call: Schema.Int }) {}

/** A group that runs. Calls below 0 are refused; a group with a call of 1000 dies, and one of 2000 or above fails. */
const makeGroups = Effect.fnUntraced(function* (maxSize = 10) {
  const groups: Array<ReadonlyArray<number>> = []
  /** Lets groups run. */
  const gate = yield* Deferred.make<void>()
  const call = yield* GroupCommit.make({
    commit: (calls: ReadonlyArray<number>) =>
      Effect.gen(function* () {
        groups.push(calls)
        yield* Deferred.await(gate)
        if (calls.includes(1000)) return yield* Effect.die("bug")
        const refused = calls.find((call) => call >= 2000)
        if (refused !== undefined) return yield* new Refused({ call: refused })
        return calls.map((call) => (call < 0 ? Exit.fail(new Refused({ call })) : Exit.succeed(`done ${call}`)))
      }),
    sizeOf: (call) => Math.abs(call),
    maxSize,
    concurrency: 1,
    isSplit: ({ call }) => call >= 3000
  })
  /** Starts calls one after the other, the first of which is in a group already. */
  const start = (...calls: ReadonlyArray<number>) =>
    Effect.forEach(calls, (one) => Effect.tap(Effect.forkChild(call(one)), () => Effect.yieldNow))
  return { groups, open: Deferred.succeed(gate, undefined), start }
})

const exitsOf = <A, E>(fibers: ReadonlyArray<Fiber.Fiber<A, E>>) => Effect.forEach(fibers, Fiber.await)

describe("GroupCommit", () => {
  it.effect("runs calls together that arrive while another group runs, in their order", () =>
    Effect.gen(function* () {
      const { groups, open, start } = yield* makeGroups()
      const fibers = yield* start(1, 2, 3, 4)
      yield* open
      assert.deepStrictEqual(
        yield* exitsOf(fibers),
        [1, 2, 3, 4].map((call) => Exit.succeed(`done ${call}`))
      )
      assert.deepStrictEqual(groups, [[1], [2, 3, 4]])
    })
  )

  it.effect("limits the size of a group", () =>
    Effect.gen(function* () {
      const { groups, open, start } = yield* makeGroups(10)
      const fibers = yield* start(1, 5, 5, 5, 20, 1)
      yield* open
      yield* exitsOf(fibers)
      assert.deepStrictEqual(groups, [[1], [5, 5], [5, 20], [1]])
    })
  )

  it.effect("fails the calls that are refused, and no others", () =>
    Effect.gen(function* () {
      const { open, start } = yield* makeGroups()
      const fibers = yield* start(1, -2, 3)
      yield* open
      assert.deepStrictEqual(yield* exitsOf(fibers), [
        Exit.succeed("done 1"),
        Exit.fail(new Refused({ call: -2 })),
        Exit.succeed("done 3")
      ])
    })
  )

  it.effect("fails all calls of a group that fails", () =>
    Effect.gen(function* () {
      const { groups, open, start } = yield* makeGroups(5000)
      const fibers = yield* start(1, 2, 2000)
      yield* open
      const failed = Exit.fail(new Refused({ call: 2000 }))
      assert.deepStrictEqual(yield* exitsOf(fibers), [Exit.succeed("done 1"), failed, failed])
      assert.deepStrictEqual(groups, [[1], [2, 2000]])
    })
  )

  it.effect("runs the calls of a group one by one that fails because of one of them", () =>
    Effect.gen(function* () {
      const { groups, open, start } = yield* makeGroups(5000)
      const fibers = yield* start(1, 2, 3000, 3)
      yield* open
      assert.deepStrictEqual(yield* exitsOf(fibers), [
        Exit.succeed("done 1"),
        Exit.succeed("done 2"),
        Exit.fail(new Refused({ call: 3000 })),
        Exit.succeed("done 3")
      ])
      assert.deepStrictEqual(groups, [[1], [2, 3000, 3], [2], [3000], [3]])
    })
  )

  it.effect("runs at most four calls by themselves at the same time, and none that was interrupted", () =>
    Effect.gen(function* () {
      let running = 0
      const counts: Array<number> = []
      const started: Array<number> = []
      const gate = yield* Deferred.make<void>()
      const call = yield* GroupCommit.make({
        commit: (calls: ReadonlyArray<number>) =>
          Effect.gen(function* () {
            if (calls.length > 1) return yield* new Refused({ call: 0 })
            counts.push(++running)
            started.push(calls[0]!)
            yield* Deferred.await(gate)
            running--
            return [Exit.succeed(calls[0])]
          }),
        sizeOf: () => 1,
        maxSize: 10,
        concurrency: 2,
        isSplit: () => true
      })
      const fibers = yield* Effect.forEach(Array.from({ length: 20 }), (_, index) => Effect.forkChild(call(index)))
      yield* Effect.repeat(Effect.yieldNow, { until: () => running >= 4 })
      yield* Fiber.interrupt(fibers.at(-1)!)
      yield* Deferred.succeed(gate, undefined)
      yield* exitsOf(fibers)
      assert.strictEqual(Math.max(...counts), 4)
      assert.deepStrictEqual(
        started.toSorted((one, other) => one - other),
        Array.from({ length: 19 }, (_, index) => index)
      )
    })
  )

  it.effect("runs the calls of a group that dies one by one", () =>
    Effect.gen(function* () {
      const { groups, open, start } = yield* makeGroups(5000)
      const fibers = yield* start(1, 2, 1000, 3)
      yield* open
      const [first, second, dead, last] = yield* exitsOf(fibers)
      assert.deepStrictEqual(
        [first, second, last],
        [1, 2, 3].map((call) => Exit.succeed(`done ${call}`))
      )
      assert.isTrue(Exit.isFailure(dead!) && Cause.hasDies(dead.cause))
      assert.deepStrictEqual(groups, [[1], [2, 1000, 3], [2], [1000], [3]])
    })
  )

  it.effect("drops calls that are interrupted while they wait", () =>
    Effect.gen(function* () {
      const { groups, open, start } = yield* makeGroups()
      const [first, second, third] = yield* start(1, 2, 3)
      yield* Fiber.interrupt(second!)
      yield* open
      yield* exitsOf([first!, third!])
      assert.deepStrictEqual(groups, [[1], [3]])
    })
  )
})
