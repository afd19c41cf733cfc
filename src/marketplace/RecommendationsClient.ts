/**
 * The books that Recommendations has for a page, in the shop's own words.
 */
import { Context, Effect, Layer, Schema } from "effect"

import { categories, type Category } from "../domain/Category.ts"
import definitions from "../generated/v1/definitions.ts"
import type { Book__Output } from "../generated/v1/onlinebooks/recommendations/v1/Book.ts"
import {
  BookCategory,
  type BookCategory__Output as CategoryNumber
} from "../generated/v1/onlinebooks/recommendations/v1/BookCategory.ts"
import type {
  RecommendationsServiceDefinition,
  RecommendationsServiceHandlers
} from "../generated/v1/onlinebooks/recommendations/v1/RecommendationsService.ts"
import * as GrpcClient from "../layers/grpc/GrpcClient.ts"
import * as GrpcService from "../layers/grpc/GrpcService.ts"
import * as Sampling from "../layers/telemetry/Sampling.ts"
import type { PageBook } from "./view/Page.ts"

/** Recommendations has no books of that category. */
export class ShelfNotFound extends Schema.TaggedError<ShelfNotFound>()("ShelfNotFound", {
  category: Schema.String
}) {}

/** Recommendations gave no answer, or none that makes sense, in time. */
export class RecommendationsUnavailable extends Schema.TaggedError<RecommendationsUnavailable>()(
  "RecommendationsUnavailable",
  { cause: Schema.Defect() }
) {}

export class RecommendationsClient extends Context.Service<
  RecommendationsClient,
  {
    /** Some books of a category, drawn by chance: as many as `count`, or all there are. */
    readonly recommend: (
      category: Category,
      count: number
    ) => Effect.Effect<ReadonlyArray<PageBook>, ShelfNotFound | RecommendationsUnavailable>
    /** The categories that have books, in the order of the menu. */
    readonly categories: Effect.Effect<ReadonlyArray<Category>, RecommendationsUnavailable>
  }
>()("onlinebooks/marketplace/RecommendationsClient") {
  /** Its calls have the time that is left of the page that they are for. */
  static readonly layer = Layer.effect(
    RecommendationsClient,
    Effect.gen(function* () {
      const client = yield* GrpcClient.make(RecommendationsService)

      const recommend = (category: Category, count: number) => {
        const request = { category: toNumber(category), maxResults: count }
        const responseLimit = { maxFields: count, maxFieldSize: maxBookSize }
        return Sampling.withSpan("RecommendationsClient.recommend")(
          Effect.mapBoth(client.Recommend(request, { responseLimit }), {
            onSuccess: ({ books }) => books.slice(0, count).map(toPageBook),
            onFailure: (cause) =>
              cause.reason._tag === "NotFound"
                ? new ShelfNotFound({ category })
                : new RecommendationsUnavailable({ cause })
          })
        )
      }

      const listCategories = client.ListCategories({}, { responseLimit: categoriesLimit }).pipe(
        Effect.map((response) => toCategories(response.categories.map(({ category }) => category))),
        Effect.mapError((cause) => new RecommendationsUnavailable({ cause })),
        Sampling.withSpan("RecommendationsClient.categories")
      )

      return RecommendationsClient.of({ recommend, categories: listCategories })
    })
  ).pipe(Layer.provide(GrpcService.ProtoFiles.layerEmbedded(definitions)))
}

const RecommendationsService = GrpcService.make<RecommendationsServiceDefinition, RecommendationsServiceHandlers>()({
  name: "onlinebooks.recommendations.v1.RecommendationsService",
  file: "onlinebooks/recommendations/v1/recommendations.proto"
})

const toNumber = (category: Category): CategoryNumber => BookCategory[`BOOK_CATEGORY_${category}`]

const byNumber = new Map<number, Category>(categories.map((category) => [toNumber(category), category]))

/** The categories with those numbers, each once; one that a newer Recommendations has added is left out. */
const toCategories = (numbers: ReadonlyArray<number>): ReadonlyArray<Category> =>
  Array.from(new Set(numbers.map((number) => byNumber.get(number)).filter((category) => category !== undefined)))

/** A book on the wire, in bytes: one that is larger is left out. The catalogue has none above a sixth of that. */
const maxBookSize = 16 * 1024

/** A newer Recommendations may know more categories, and say more of all of them. */
const categoriesLimit = { maxFields: 10 * categories.length, maxFieldSize: 1024 }

/** The longest title that a catalogue may have; an author has no longer name. */
const maxTextLength = 512

const maxAuthors = 32

/** A book as a page shows it, whatever a backend says: too much text is cut. */
const toPageBook = (book: Book__Output): PageBook => ({
  ...book,
  title: cut(book.title),
  authors: book.authors.slice(0, maxAuthors).map(cut),
  categories: toCategories(book.categories)
})

/** A text of so many characters at the most. One of fewer UTF-16 units than that, as nearly all are, has no more characters. */
const cut = (text: string): string =>
  text.length <= maxTextLength ? text : Array.from(text).slice(0, maxTextLength).join("")
