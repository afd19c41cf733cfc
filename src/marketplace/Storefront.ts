/**
 * Decides what a page shows: books, or a substitute when there are none or Recommendations is unavailable.
 */
import { Cache, Clock, Context, Duration, Effect, Layer, Match, Metric } from "effect"

import { categories, type Category } from "../domain/Category.ts"
import * as Setting from "../layers/config/Setting.ts"
import * as GrpcClient from "../layers/grpc/GrpcClient.ts"
import * as LogRateLimiter from "../layers/telemetry/LogRateLimiter.ts"
import * as TraceContext from "../layers/telemetry/TraceContext.ts"
import { categoryOfSlug } from "./categorySlug.ts"
import { type PageBook, RecommendationsClient } from "./RecommendationsClient.ts"

/** The number of books on a page. */
const bookCount = 3

/** How long the menu is cached, in nanoseconds. */
const menuTimeToLive = Duration.toNanosUnsafe(Duration.seconds(10))

const pagesWithoutBooks = Metric.counter("marketplace_pages_without_books_total", {
  description: "Pages rendered without recommendations because Recommendations was unavailable",
  incremental: true
})

const logLimiter = LogRateLimiter.make("pages without recommendations")

/** What a page of the storefront shows. */
export type Content =
  | { readonly _tag: "Books"; readonly category: Category; readonly books: ReadonlyArray<PageBook> }
  /** Recommendations is down or slow. */
  | { readonly _tag: "Unavailable"; readonly category: Category }
  /** There is no category with this name, or it has no books. */
  | { readonly _tag: "UnknownCategory"; readonly name: string }

/** The content of a page, and the categories in its menu. */
export interface Display {
  readonly content: Content
  readonly menu: ReadonlyArray<Category>
  /** Whether the page is the home page. */
  readonly home: boolean
}

export class Storefront extends Context.Service<
  Storefront,
  {
    /** The display for a category's slug, or for the home page if it is undefined. It never fails. */
    readonly display: (slug: string | undefined) => Effect.Effect<Display>
    /** The categories that have books, by the last response of Recommendations; all categories before the first response. */
    readonly menu: Effect.Effect<ReadonlyArray<Category>>
  }
>()("onlinebooks/marketplace/Storefront") {
  /** `budget` is the total timeout of all calls for a page. */
  static readonly layer = (budget: Duration.Input) =>
    Layer.effect(
      Storefront,
      Effect.gen(function* () {
        const client = yield* RecommendationsClient
        const millis = Duration.toMillis(budget)
        const menu = yield* cacheMenu(client.categories)

        // exports the metric from the start, so that rates include its first increase
        yield* Metric.update(pagesWithoutBooks, 0)

        const display = (slug: string | undefined): Effect.Effect<Display> => {
          const home = slug === undefined
          const category = home ? "MYSTERY" : categoryOfSlug(slug)
          const content =
            category === undefined
              ? Effect.succeed<Content>({ _tag: "UnknownCategory", name: slug ?? "" })
              : fetchContent(client, category, slug)
          const shown = Effect.flatMap(Clock.Clock, (clock) =>
            clock.monotonicTimeNanosUnsafe() < menu.expiresAt
              ? Effect.map(content, (content) => ({ content, home, menu: menu.last }))
              : Effect.all({ content, home: Effect.succeed(home), menu: menu.get }, { concurrency: "unbounded" })
          )
          return GrpcClient.withDeadline(shown, millis)
        }

        return Storefront.of({ display, menu: GrpcClient.withDeadline(menu.get, millis) })
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

/** The content of a category's page, or of the home page if the slug is undefined. */
const fetchContent = (client: RecommendationsClient["Service"], category: Category, slug: string | undefined) =>
  TraceContext.withSpan(
    Effect.matchEffect(client.recommend(category, bookCount), {
      onSuccess: (books): Effect.Effect<Content> => Effect.succeed({ _tag: "Books", category, books }),
      onFailure: Match.valueTags({
        // the home page has a default category, so it cannot be an unknown one
        ShelfNotFound: (): Effect.Effect<Content> =>
          Effect.succeed(
            slug === undefined ? { _tag: "Books", category, books: [] } : { _tag: "UnknownCategory", name: slug }
          ),
        RecommendationsUnavailable: ({ cause }): Effect.Effect<Content> =>
          Metric.update(pagesWithoutBooks, 1).pipe(
            Effect.andThen(logLimiter.log(Effect.logWarning("Page rendered without recommendations", cause))),
            Effect.as({ _tag: "Unavailable", category })
          )
      })
    }),
    "Storefront.content"
  )

/** The cached menu. If it cannot be fetched, the last one is used, initially all categories. */
interface Menu {
  last: ReadonlyArray<Category>
  /** When the last menu expires, in nanoseconds of the monotonic clock. */
  expiresAt: bigint
  readonly get: Effect.Effect<ReadonlyArray<Category>>
}

const cacheMenu = Effect.fnUntraced(function* (fetch: RecommendationsClient["Service"]["categories"]) {
  const refresh = Effect.gen(function* () {
    menu.last = yield* fetch
    menu.expiresAt = (yield* Clock.monotonicTimeNanos) + menuTimeToLive
  })
  // Concurrent requests share one call. Cache uses the wall clock, which can be set back, so the entry is invalidated as soon as the call
  // ends, and the expiry is checked by the monotonic clock.
  const shared = yield* Cache.makeWith(() => refresh, { capacity: 1, timeToLive: () => Duration.zero })
  const sharedRefresh = Effect.andThen(Effect.ignore(Cache.get(shared, "menu")), Cache.invalidate(shared, "menu"))
  const menu: Menu = {
    last: categories,
    expiresAt: 0n,
    get: Effect.gen(function* () {
      if ((yield* Clock.monotonicTimeNanos) >= menu.expiresAt) yield* sharedRefresh
      return menu.last
    })
  }
  return menu
})
