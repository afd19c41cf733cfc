/**
 * What the shop recommends to a reader: books of a shelf, drawn by chance.
 */
import { Context, Effect, Layer, Random, Schema, SchemaIssue } from "effect"

import type { Book } from "./Book.ts"
import {
  BookCatalog,
  type CatalogUnavailable,
  type CategoryNotFound,
  type CategorySummary,
  type Shelf
} from "./BookCatalog.ts"

/** How many books a reader gets who does not say how many. */
export const defaultLimit = 10

/** The most books one recommendation gives, whatever the reader asks for. */
export const maxLimit = 100

/** A question as a reader asks it; {@link Recommender} says what is wrong with it. */
export interface Query {
  /** The reader: 0 is a visitor who has not signed in, below 0 is nobody. */
  readonly userId: number
  /** The name of a category, such as "MYSTERY"; undefined is every category. */
  readonly category: string | undefined
  /** How many books, at the most: 1 and up. Above {@link maxLimit} is taken as that, undefined as {@link defaultLimit}. */
  readonly maxResults: number | undefined
}

/** What a question's fields may hold. */
const QueryFields = Schema.Struct({
  userId: Schema.Int.check(
    Schema.isGreaterThanOrEqualTo(0, { message: "expected 0 (a visitor who has not signed in) or above" })
  ),
  maxResults: Schema.UndefinedOr(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1, { message: "expected 1 or above" })))
})

/** The question has fields out of range: every one of them is named, with what was expected of it. */
export class InvalidQuery extends Schema.TaggedError<InvalidQuery>()("InvalidQuery", {
  violations: Schema.Array(
    Schema.Struct({
      /** A field of {@link Query}. */
      field: Schema.String,
      description: Schema.String
    })
  )
}) {
  override get message() {
    return this.violations.map(({ description, field }) => `${field}: ${description}`).join("; ")
  }
}

export class Recommender extends Context.Service<
  Recommender,
  {
    /** Draws distinct books of a category in random order: as many as were asked for, or all there are. */
    readonly recommend: (
      query: Query
    ) => Effect.Effect<ReadonlyArray<Book>, InvalidQuery | CategoryNotFound | CatalogUnavailable>
    /** The categories that have books, in the order of the menu. */
    readonly categories: Effect.Effect<ReadonlyArray<CategorySummary>, CatalogUnavailable>
  }
>()("onlinebooks/domain/Recommender") {
  static readonly layer = Layer.effect(
    Recommender,
    Effect.gen(function* () {
      const catalog = yield* BookCatalog

      return Recommender.of({
        recommend: (query) =>
          Effect.flatMapEager(checkFields(query), ({ category, maxResults = defaultLimit }) => {
            const shelf = category === undefined ? catalog.allBooks : catalog.shelf(category)
            return Effect.flatMapEager(shelf, (shelf) => draw(shelf, Math.min(maxResults, maxLimit)))
          }),
        categories: catalog.summaries
      })
    })
  )
}

const decodeFields = Schema.decodeEffect(QueryFields, { errors: "all" })
const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** Whether a query is in order, as nearly all are: sooner said than by the schema, which says what is wrong with the others. */
const isInOrder = ({ maxResults, userId }: Query): boolean =>
  Number.isInteger(userId) &&
  userId >= 0 &&
  (maxResults === undefined || (Number.isInteger(maxResults) && maxResults >= 1))

const checkFields = (query: Query): Effect.Effect<Query, InvalidQuery> =>
  isInOrder(query)
    ? Effect.succeed(query)
    : decodeFields(query).pipe(
        Effect.as(query),
        Effect.mapError(
          ({ issue }) =>
            new InvalidQuery({
              violations: formatIssue(issue).issues.map(({ message, path }) => ({
                field: String(path?.[0]),
                description: message
              }))
            })
        )
      )

/**
 * Draws `count` distinct books of a shelf, or all there are, every choice and every order being equally likely.
 *
 * This is the shuffle of Fisher and Yates, stopped after `count` cards, with only the cards that have moved written
 * down: it costs O(count) time and memory, whatever the shelf holds.
 */
export const draw = (shelf: Shelf, count: number): Effect.Effect<ReadonlyArray<Book>> =>
  Effect.map(Random.Random, (random) => {
    const moved = new Map<number, number>()
    const drawn: Array<Book> = []
    for (let next = 0; next < Math.min(count, shelf.size); next++) {
      const position = next + Math.floor(random.nextDoubleUnsafe() * (shelf.size - next))
      drawn.push(shelf.at(moved.get(position) ?? position))
      moved.set(position, moved.get(next) ?? next)
    }
    return drawn
  })
