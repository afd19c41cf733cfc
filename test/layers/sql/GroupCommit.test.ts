import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Schema } from "effect"

import * as GroupCommit from "../../../src/layers/sql/GroupCommit.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { call: Schema.Int }) {}

/** A group that runs. Calls below 0 are refused; a group with a call of 1000 dies. */
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
        if (calls.includes(2000)) return yield* new Refused({ call: 2000 })
        return calls.map((call) => (call < 0 ? Exit.fail(new Refused({ call })) : Exit.succeed(`done ${call}`)))
      }),
    sizeOf: (call) => Math.abs(call),
    maxSize,
    concurrency: 1
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
