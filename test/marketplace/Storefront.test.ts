import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"

import { categories, type Category } from "../../src/domain/Category.ts"
import {
  RecommendationsClient,
  RecommendationsUnavailable,
  ShelfNotFound
} from "../../src/marketplace/RecommendationsClient.ts"
import { Storefront } from "../../src/marketplace/Storefront.ts"
import type { PageBook } from "../../src/marketplace/view/Page.ts"

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
  it.effect("has three mysteries on the front table", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* display(), {
        content: { _tag: "Books", category: "MYSTERY", books: threeBooks("MYSTERY") },
        menu: ["MYSTERY", "HORROR"]
      })
    }).pipe(withClient({}))
  )

  it.effect("asks for three books of the category in the address", () => {
    const asked: Array<readonly [Category, number]> = []
    return Effect.gen(function* () {
      const { content } = yield* display("science-fiction")
      assert.strictEqual(content._tag, "Books")
      assert.deepStrictEqual(asked, [["SCIENCE_FICTION", 3]])
    }).pipe(
      withClient({
        recommend: (category, count) =>
          Effect.sync(() => {
            asked.push([category, count])
            return threeBooks(category)
          })
      })
    )
  })

  it.effect("does not ask for a category that the shop does not know", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* display("cooking"), {
        content: { _tag: "UnknownCategory", name: "cooking" },
        menu: ["MYSTERY", "HORROR"]
      })
    }).pipe(withClient({ recommend: () => Effect.die("not to be asked") }))
  )

  it.effect("offers what there is instead of a category without books", () =>
    Effect.gen(function* () {
      const { content } = yield* display("romance")
      assert.deepStrictEqual(content, { _tag: "UnknownCategory", name: "romance" })
    }).pipe(withClient({ recommend: (category) => Effect.fail(new ShelfNotFound({ category })) }))
  )

  it.effect("has an empty front table when there are no mysteries", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* display()).content, { _tag: "Books", category: "MYSTERY", books: [] })
      assert.deepStrictEqual((yield* display("mystery")).content, { _tag: "UnknownCategory", name: "mystery" })
    }).pipe(withClient({ recommend: (category) => Effect.fail(new ShelfNotFound({ category })) }))
  )

  it.effect("asks for the menu while it asks for the books", () =>
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

  it.effect("without Recommendations has a menu of all it knows, and still tells good names from bad", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* display("horror"), {
        content: { _tag: "Unavailable", category: "HORROR" },
        menu: categories
      })
      assert.strictEqual((yield* display("cooking")).content._tag, "UnknownCategory")
    }).pipe(withClient({ recommend: () => Effect.fail(unavailable), categories: Effect.fail(unavailable) }))
  )

  it.effect("keeps the menu for ten seconds, and the last one known for as long as there is no other", () => {
    const answers: Array<Effect.Effect<ReadonlyArray<Category>, RecommendationsUnavailable>> = [
      Effect.fail(unavailable),
      Effect.succeed(["MYSTERY"]),
      Effect.fail(unavailable),
      Effect.succeed(["HORROR"])
    ]
    return Effect.gen(function* () {
      const { menu } = yield* Storefront
      assert.deepStrictEqual(yield* menu, categories)
      // a failure is not kept
      assert.deepStrictEqual(yield* menu, ["MYSTERY"])
      yield* TestClock.adjust(Duration.seconds(9))
      assert.deepStrictEqual(yield* menu, ["MYSTERY"])
      assert.strictEqual(answers.length, 2)
      yield* TestClock.adjust(Duration.seconds(2))
      assert.deepStrictEqual(yield* menu, ["MYSTERY"])
      assert.deepStrictEqual(yield* menu, ["HORROR"])
    }).pipe(withClient({ categories: Effect.suspend(() => answers.shift() ?? Effect.die("asked too often")) }))
  })

  it.effect("asks for the menu again after ten seconds whatever the wall clock says meanwhile", () => {
    let now = Date.parse("2026-11-28")
    let monotonic = 0n
    const seconds = (count: number) => (monotonic += BigInt(count) * 1_000_000_000n)
    let asked = 0
    return Effect.gen(function* () {
      const clock = yield* Clock.Clock
      yield* Effect.gen(function* () {
        const { menu } = yield* Storefront
        yield* menu
        // a day back
        now -= 86_400_000
        seconds(9)
        yield* menu
        assert.strictEqual(asked, 1)
        seconds(2)
        yield* menu
        assert.strictEqual(asked, 2)
        // and two days forward
        now += 2 * 86_400_000
        yield* menu
        assert.strictEqual(asked, 2)
        seconds(11)
        yield* menu
        assert.strictEqual(asked, 3)
      }).pipe(
        Effect.provideService(Clock.Clock, {
          ...clock,
          currentTimeMillisUnsafe: () => now,
          currentTimeMillis: Effect.sync(() => now),
          monotonicTimeNanosUnsafe: () => monotonic,
          monotonicTimeNanos: Effect.sync(() => monotonic)
        })
      )
    }).pipe(withClient({ categories: Effect.sync(() => (asked++, ["MYSTERY"] as const)) }))
  })
})
