import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"

import { categories, type Category } from "../../src/domain/Category.ts"
import {
  type PageBook,
  RecommendationsClient,
  RecommendationsUnavailable,
  ShelfNotFound
} from "../../src/marketplace/RecommendationsClient.ts"
import { Storefront } from "../../src/marketplace/Storefront.ts"

const unavailable = new RecommendationsUnavailable({ cause: "down" })

const threeBooks = (category: Category): ReadonlyArray<PageBook> =>
  [1, 2, 3].map((id) => ({ id, title: `Book ${id}`, authors: ["A"], categories: [category] }))

const withClient = (client: Partial<RecommendationsClient["Service"]>) =>
  Effect.provide(
    Storefront.layer("800 millis").pipe(
      Layer.provide(
        Layer.mock(RecommendationsClient, {
          recommend: (category) => Effect.succeed(threeBooks(category)),
          categories: Effect.succeed(["MYSTERY", "HORROR"] as const),
          ...client
        })
      )
    )
  )

const display = (slug?: string) => Effect.flatMap(Storefront, (storefront) => storefront.display(slug))

describe("Storefront", () => {
  it.effect("shows three mysteries on the home page", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* display(), {
        content: { _tag: "Books", category: "MYSTERY", books: threeBooks("MYSTERY") },
        menu: ["MYSTERY", "HORROR"],
        home: true
      })
    }).pipe(withClient({}))
  )

  it.effect("requests three books of the category in the address", () => {
    const requested: Array<readonly [Category, number]> = []
    return Effect.gen(function* () {
      const { content } = yield* display("science-fiction")
      assert.strictEqual(content._tag, "Books")
      assert.deepStrictEqual(requested, [["SCIENCE_FICTION", 3]])
    }).pipe(
      withClient({
        recommend: (category, count) =>
          Effect.sync(() => {
            requested.push([category, count])
            return threeBooks(category)
          })
      })
    )
  })

  it.effect("makes no call for an unknown category", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* display("cooking"), {
        content: { _tag: "UnknownCategory", name: "cooking" },
        menu: ["MYSTERY", "HORROR"],
        home: false
      })
    }).pipe(withClient({ recommend: () => Effect.die("must not be called") }))
  )

  it.effect("treats a category without books as unknown", () =>
    Effect.gen(function* () {
      const { content } = yield* display("romance")
      assert.deepStrictEqual(content, { _tag: "UnknownCategory", name: "romance" })
    }).pipe(withClient({ recommend: (category) => Effect.fail(new ShelfNotFound({ category })) }))
  )

  it.effect("shows an empty home page if there are no mysteries", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* display()).content, { _tag: "Books", category: "MYSTERY", books: [] })
      assert.deepStrictEqual((yield* display("mystery")).content, { _tag: "UnknownCategory", name: "mystery" })
    }).pipe(withClient({ recommend: (category) => Effect.fail(new ShelfNotFound({ category })) }))
  )

  it.effect("fetches the menu and the books concurrently", () =>
    Effect.gen(function* () {
      const showing = yield* Effect.forkChild(display())
      yield* TestClock.adjust(Duration.seconds(1))
      assert.strictEqual((yield* Fiber.join(showing)).content._tag, "Unavailable")
    }).pipe(
      withClient({
        recommend: () => Effect.delay(Effect.fail(unavailable), Duration.seconds(1)),
        categories: Effect.delay(Effect.fail(unavailable), Duration.seconds(1))
      })
    )
  )

  it.effect("shows a menu of all categories, and rejects unknown ones, if Recommendations has never answered", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* display("horror"), {
        content: { _tag: "Unavailable", category: "HORROR" },
        menu: categories,
        home: false
      })
      assert.strictEqual((yield* display("cooking")).content._tag, "UnknownCategory")
    }).pipe(withClient({ recommend: () => Effect.fail(unavailable), categories: Effect.fail(unavailable) }))
  )

  it.effect("caches the menu for ten seconds, and shows the last one if it cannot be fetched", () => {
    const answers: Array<Effect.Effect<ReadonlyArray<Category>, RecommendationsUnavailable>> = [
      Effect.fail(unavailable),
      Effect.succeed(["MYSTERY"]),
      Effect.fail(unavailable),
      Effect.succeed(["HORROR"])
    ]
    return Effect.gen(function* () {
      const { menu } = yield* Storefront
      assert.deepStrictEqual(yield* menu, categories)
      // a failure is not cached
      assert.deepStrictEqual(yield* menu, ["MYSTERY"])
      yield* TestClock.adjust(Duration.seconds(9))
      assert.deepStrictEqual(yield* menu, ["MYSTERY"])
      assert.strictEqual(answers.length, 2)
      yield* TestClock.adjust(Duration.seconds(2))
      assert.deepStrictEqual(yield* menu, ["MYSTERY"])
      assert.deepStrictEqual(yield* menu, ["HORROR"])
    }).pipe(withClient({ categories: Effect.suspend(() => answers.shift() ?? Effect.die("called too often")) }))
  })

  it.effect("expires the menu by the monotonic clock", () => {
    let now = Date.parse("2026-11-28")
    let monotonic = 0n
    const seconds = (count: number) => (monotonic += BigInt(count) * 1_000_000_000n)
    let calls = 0
    return Effect.gen(function* () {
      const clock = yield* Clock.Clock
      yield* Effect.gen(function* () {
        const { menu } = yield* Storefront
        yield* menu
        // the wall clock is set back by a day
        now -= 86_400_000
        seconds(9)
        yield* menu
        assert.strictEqual(calls, 1)
        seconds(2)
        yield* menu
        assert.strictEqual(calls, 2)
        // the wall clock is set forward by two days
        now += 2 * 86_400_000
        yield* menu
        assert.strictEqual(calls, 2)
        seconds(11)
        yield* menu
        assert.strictEqual(calls, 3)
      }).pipe(
        Effect.provideService(Clock.Clock, {
          ...clock,
          currentTimeMillisUnsafe: () => now,
          currentTimeMillis: Effect.sync(() => now),
          monotonicTimeNanosUnsafe: () => monotonic,
          monotonicTimeNanos: Effect.sync(() => monotonic)
        })
      )
    }).pipe(withClient({ categories: Effect.sync(() => (calls++, ["MYSTERY"] as const)) }))
  })
})
