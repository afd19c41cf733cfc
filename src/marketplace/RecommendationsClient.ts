/**
 * The client of Recommendations. It limits the size of responses, so that a faulty or malicious backend cannot exhaust memory.
 */
import { Context, Effect, Layer, Schema } from "effect"

import { categories, type Category } from "../domain/Category.ts"
import type { Book__Output } from "../generated/v1/onlinebooks/recommendations/v1/Book.ts"
import { BookCategory } from "../generated/v1/onlinebooks/recommendations/v1/BookCategory.ts"
import { RecommendationsService } from "../generated/v1/services.ts"
import * as GrpcClient from "../layers/grpc/GrpcClient.ts"
import * as TraceContext from "../layers/telemetry/TraceContext.ts"

/** A book as a page shows it. */
export interface PageBook {
  readonly id: number
  readonly title: string
  /** In the order of the title page. */
  readonly authors: ReadonlyArray<string>
  /** The year of first publication, if known; negative before the common era. */
  readonly year?: number | undefined
  readonly categories: ReadonlyArray<Category>
}

/** Recommendations has no books of the category. */
export class ShelfNotFound extends Schema.TaggedError<ShelfNotFound>()("ShelfNotFound", {
  category: Schema.String
}) {}

/** The call to Recommendations failed or timed out. */
export class RecommendationsUnavailable extends Schema.TaggedError<RecommendationsUnavailable>()(
  "RecommendationsUnavailable",
  { cause: Schema.Defect() }
) {}

export class RecommendationsClient extends Context.Service<
  RecommendationsClient,
  {
    /** Returns up to `count` random books of a category. */
    readonly recommend: (
      category: Category,
      count: number
    ) => Effect.Effect<ReadonlyArray<PageBook>, ShelfNotFound | RecommendationsUnavailable>
    /** The categories that have books, in the order of the menu. */
    readonly categories: Effect.Effect<ReadonlyArray<Category>, RecommendationsUnavailable>
  }
>()("onlinebooks/marketplace/RecommendationsClient") {
  /** Its calls inherit the deadline of the page. */
  static readonly layer = Layer.effect(
    RecommendationsClient,
    Effect.gen(function* () {
      const client = yield* GrpcClient.make(RecommendationsService)

      const recommend = (category: Category, count: number) => {
        const request = { category: BookCategory[`BOOK_CATEGORY_${category}`], maxResults: count }
        const responseLimit = { maxFields: count, maxFieldSize: maxBookSize }
        return TraceContext.withSpan(
          Effect.mapBoth(client.Recommend(request, { responseLimit }), {
            onSuccess: ({ books }) => books.slice(0, count).map(toPageBook),
            onFailure: (cause) =>
              cause.reason._tag === "NotFound"
                ? new ShelfNotFound({ category })
                : new RecommendationsUnavailable({ cause })
          }),
          "RecommendationsClient.recommend"
        )
      }

      const listCategories = client.ListCategories({}, { responseLimit: categoriesLimit }).pipe(
        Effect.map((response) => toCategories(response.categories.map(({ category }) => category))),
        Effect.mapError((cause) => new RecommendationsUnavailable({ cause })),
        (categories) => TraceContext.withSpan(categories, "RecommendationsClient.categories")
      )

      return RecommendationsClient.of({ recommend, categories: listCategories })
    })
  )
}

const byNumber = new Map<number, Category>(
  categories.map((category) => [BookCategory[`BOOK_CATEGORY_${category}`], category])
)

/** The categories of enum numbers, each once. Unknown numbers, of a newer Recommendations, are omitted. */
const toCategories = (numbers: ReadonlyArray<number>): ReadonlyArray<Category> => {
  const known = new Set<Category>()
  for (const number of numbers) {
    const category = byNumber.get(number)
    if (category !== undefined) known.add(category)
  }
  return Array.from(known)
}

/** The maximum size of an encoded book, in bytes; larger ones are omitted. It is several times the maximum in the catalogue. */
const maxBookSize = 16 * 1024

/** Leaves room for a newer Recommendations with more categories and more fields. */
const categoriesLimit = { maxFields: 10 * categories.length, maxFieldSize: 1024 }

/** The maximum length of a title or a name, in code points. */
const maxTextLength = 512

const maxAuthors = 32

/** Converts a book, and truncates its texts to lengths that a page can show. */
const toPageBook = (book: Book__Output): PageBook => ({
  ...book,
  title: truncate(book.title),
  authors: book.authors.slice(0, maxAuthors).map(truncate),
  categories: toCategories(book.categories)
})

const truncate = (text: string): string =>
  // a text has at least as many UTF-16 code units as code points, so most texts need no counting
  text.length <= maxTextLength ? text : Array.from(text).slice(0, maxTextLength).join("")
