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

/** The most characters of a title. */
export const maxTitleLength = 512

/** The most characters of an author's name. */
export const maxNameLength = 256

/** The most authors of a book. */
export const maxAuthors = 100

/** A control character, such as a line break. */
const control = /[\p{Cc}\p{Zl}\p{Zp}]/u

/** A character that is drawn as something. */
const visible = /[^\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/u

/** Text of one line with something to see in it, of so many characters (code points) at the most. */
const line = (maximum: number) =>
  Schema.NonEmptyString.check(
    Schema.makeFilter(
      (text) =>
        (text.length <= maximum || (text.length <= maximum * 2 && Array.from(text).length <= maximum)) &&
        !control.test(text) &&
        visible.test(text)
    )
  )

export const Book = Schema.Struct({
  id: BookId,
  title: line(maxTitleLength),
  /** In the order of the title page, at least one. */
  authors: Schema.NonEmptyArray(line(maxNameLength)).check(Schema.isMaxLength(maxAuthors)),
  year: Schema.optionalKey(Year),
  isbn10: Schema.optionalKey(Isbn10),
  /** The shelves it stands on: at least one, each once. */
  categories: Schema.NonEmptyArray(Category).check(Schema.isUnique())
})

export interface Book extends Schema.Schema.Type<typeof Book> {}
