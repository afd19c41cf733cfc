import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"

import { HistoryCache } from "../../../src/recommendations/readers/HistoryCache.ts"

const books = (count: number): ReadonlySet<number> => new Set(Array.from({ length: count }, (_, index) => index + 1))

/** Reads `count` books for a reader. */
const fill = (cache: HistoryCache, userId: number, count: number) => cache.read(userId, Effect.succeed(books(count)))

const sizes = (cache: HistoryCache, ...userIds: ReadonlyArray<number>) =>
  userIds.map((userId) => cache.get(userId)?.size)

describe("HistoryCache", () => {
  it.effect("has what was read last", () =>
    Effect.gen(function* () {
      const cache = new HistoryCache()
      assert.strictEqual((yield* fill(cache, 1, 2)).size, 2)
      yield* fill(cache, 1, 3)
      yield* fill(cache, 2, 0)
      assert.deepStrictEqual(sizes(cache, 1, 2, 3), [3, 0, undefined])
    })
  )

  it.effect("drops a reader, or all", () =>
    Effect.gen(function* () {
      const cache = new HistoryCache()
      for (const userId of [1, 2, 3]) yield* fill(cache, userId, userId)
      cache.delete(2)
      assert.deepStrictEqual(sizes(cache, 1, 2, 3), [1, undefined, 3])
      cache.clear()
      assert.deepStrictEqual(sizes(cache, 1, 2, 3), [undefined, undefined, undefined])
    })
  )

  it.effect("drops the least recently used readers if they have too many books together", () =>
    Effect.gen(function* () {
      const cache = new HistoryCache()
      for (const userId of [1, 2, 3]) yield* fill(cache, userId, 80_000)
      cache.get(1)
      yield* fill(cache, 4, 80_000)
      assert.deepStrictEqual(sizes(cache, 1, 2, 3, 4), [80_000, undefined, 80_000, 80_000])
      cache.delete(1)
      yield* fill(cache, 5, 80_000)
      assert.deepStrictEqual(sizes(cache, 3, 4, 5), [80_000, 80_000, 80_000])
    })
  )

  it.effect.each(["delete", "clear"] as const)("stores nothing that was being read at a %s", (drop) =>
    Effect.gen(function* () {
      const cache = new HistoryCache()
      const result = yield* Deferred.make<ReadonlySet<number>>()
      const reading = yield* Effect.forkChild(cache.read(1, Deferred.await(result)))
      yield* Effect.yieldNow
      cache[drop](1)
      yield* Deferred.succeed(result, books(3))
      assert.strictEqual((yield* Fiber.join(reading)).size, 3)
      assert.deepStrictEqual(sizes(cache, 1), [undefined])
      yield* fill(cache, 1, 2)
      assert.deepStrictEqual(sizes(cache, 1), [2])
    })
  )

  it.effect("keeps what it has when a read fails", () =>
    Effect.gen(function* () {
      const cache = new HistoryCache()
      yield* fill(cache, 1, 2)
      assert.strictEqual(yield* Effect.flip(cache.read(1, Effect.fail("down"))), "down")
      assert.deepStrictEqual(sizes(cache, 1), [2])
    })
  )

  it.effect("drops what was read before a time", () =>
    Effect.gen(function* () {
      const cache = new HistoryCache()
      yield* fill(cache, 1, 1)
      yield* TestClock.adjust(10)
      yield* fill(cache, 2, 2)
      cache.deleteOlderThan(10)
      assert.deepStrictEqual(sizes(cache, 1, 2), [undefined, 2])
    })
  )
})
