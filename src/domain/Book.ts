/**
 * A book of the catalogue.
 */
import { Schema } from "effect"

import { Category } from "./Category.ts"

/** Identifies a book: a positive number that fits in the 32 bits that the API has for it. */
export const BookId = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2_147_483_647 }))

/** The year of first publication. A negative one is before the common era, which has no year 0. */
export const Year = Schema.Int.check(
  Schema.isBetween({ minimum: -9999, maximum: 9999 }),
  Schema.makeFilter((year) => year !== 0)
)

/** An ISBN of ten characters. Its check digit is not verified: real catalogues often have it wrong. */
export const Isbn10 = Schema.String.check(Schema.isPattern(/^[0-9]{9}[0-9X]$/))

export const Book = Schema.Struct({
  id: BookId,
  title: Schema.NonEmptyString,
  /** In the order of the title page, at least one. */
  authors: Schema.NonEmptyArray(Schema.NonEmptyString),
  year: Schema.optionalKey(Year),
  isbn10: Schema.optionalKey(Isbn10),
  /** The shelves it stands on: at least one, each once. */
  categories: Schema.NonEmptyArray(Category).check(Schema.isUnique())
})

export interface Book extends Schema.Schema.Type<typeof Book> {}
