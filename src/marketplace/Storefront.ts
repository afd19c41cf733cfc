/**
 * What a reader gets who comes in: a page, and whether it is the one that was asked for.
 */
import { Cache, Clock, Context, Duration, Effect, Layer, Match, Metric } from "effect"

import { categories, type Category } from "../domain/Category.ts"
import * as Setting from "../layers/config/Setting.ts"
import * as Deadline from "../layers/grpc/Deadline.ts"
import * as LogRateLimiter from "../layers/telemetry/LogRateLimiter.ts"
import * as Sampling from "../layers/telemetry/Sampling.ts"
import { RecommendationsClient } from "./RecommendationsClient.ts"
import { categoryOfSlug, type Content } from "./view/Page.ts"

/** How many books lie on the front table. */
const bookCount = 3

/** How long the menu is kept before Recommendations is asked again which categories it has. */
const menuAge = Duration.toNanosUnsafe(Duration.seconds(10))

const pagesWithoutBooks = Metric.counter("marketplace_pages_without_books_total", {
  description: "Pages that came without suggestions, since Recommendations gave none",
  incremental: true
})

const lines = LogRateLimiter.make("pages without recommendations")

/** What there is to show, before it is a page. */
export interface Display {
  readonly content: Content
  readonly menu: ReadonlyArray<Category>
}

export class Storefront extends Context.Service<
  Storefront,
  {
    /** The display for a category as it stands in an address, or the front table's. It never fails. */
    readonly display: (slug: string | undefined) => Effect.Effect<Display>
    /** The categories that are known to have books: at worst those of an earlier time, at the start all. */
    readonly menu: Effect.Effect<ReadonlyArray<Category>>
  }
>()("onlinebooks/marketplace/Storefront") {
  /** A page may spend as long as the budget on all that it asks for. */
  static readonly layer = (budget: Duration.Input) =>
    Layer.effect(
      Storefront,
      Effect.gen(function* () {
        const client = yield* RecommendationsClient
        const inBudget = Deadline.within(budget)

        // it is there from the start, so that its first increase is seen
        yield* Metric.update(pagesWithoutBooks, 0)
        let lastKnown: ReadonlyArray<Category> = categories
        /** Until when that need not be asked for again, by the monotonic clock. */
        let freshUntil = 0n
        const ask = Effect.gen(function* () {
          lastKnown = yield* client.categories
          freshUntil = (yield* Clock.monotonicTimeNanos) + menuAge
        })
        // those who come meanwhile wait for the same answer
        const asked = yield* Cache.makeWith(() => ask, { capacity: 1, timeToLive: () => Duration.zero })
        // the cache would keep the answer by the wall clock, which can go back
        const refresh = Effect.andThen(Effect.ignore(Cache.get(asked, "menu")), Cache.invalidate(asked, "menu"))
        const isFresh = (clock: Clock.Clock) => clock.monotonicTimeNanosUnsafe() < freshUntil
        const menu = Clock.clockWith((clock) => Effect.map(isFresh(clock) ? Effect.void : refresh, () => lastKnown))

        const content = (category: Category, name: string | undefined) =>
          Sampling.withSpan("Storefront.content")(
            Effect.matchEffect(client.recommend(category, bookCount), {
              onSuccess: (books): Effect.Effect<Content> => Effect.succeed({ _tag: "Books", category, books }),
              onFailure: Match.valueTags({
                // the front table has no name that the reader could have wrong: it is empty
                ShelfNotFound: (): Effect.Effect<Content> =>
                  Effect.succeed(
                    name === undefined ? { _tag: "Books", category, books: [] } : { _tag: "UnknownCategory", name }
                  ),
                RecommendationsUnavailable: ({ cause }): Effect.Effect<Content> =>
                  Metric.update(pagesWithoutBooks, 1).pipe(
                    Effect.andThen(lines.log(Effect.logWarning("Page rendered without recommendations", cause))),
                    Effect.as({ _tag: "Unavailable", category })
                  )
              })
            })
          )

        const display = (slug: string | undefined): Effect.Effect<Display> => {
          const category = slug === undefined ? "MYSTERY" : categoryOfSlug(slug)
          const shown =
            category === undefined
              ? Effect.succeed<Content>({ _tag: "UnknownCategory", name: slug ?? "" })
              : content(category, slug)
          return inBudget(
            Clock.clockWith((clock) =>
              isFresh(clock)
                ? Effect.map(shown, (content) => ({ content, menu: lastKnown }))
                : Effect.all({ content: shown, menu }, { concurrency: "unbounded" })
            )
          )
        }

        return Storefront.of({ display, menu: inBudget(menu) })
      })
    )

  /** As {@link Storefront.layer}, with the budget from MARKETPLACE_PAGE_BUDGET. */
  static readonly layerConfig = Layer.unwrap(
    Effect.map(
      Setting.duration("MARKETPLACE_PAGE_BUDGET", {
        description: "How long a page waits for books before it is rendered without them.",
        default: Duration.millis(800),
        minimum: "10 millis",
        maximum: "1 hour"
      }),
      Storefront.layer
    )
  )
}
