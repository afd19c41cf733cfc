/**
 * A book of the catalogue, and the rules for its fields.
 */
import { Schema } from "effect"

import { Category } from "./Category.ts"

/** The highest id of a book. The APIs transmit ids as int32. */
export const maxBookId = 2_147_483_647

/** Identifies a book. */
export const BookId = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: maxBookId }))

/** The year of first publication. Negative years are before the common era, which has no year 0. */
export const Year = Schema.Int.check(
  Schema.isBetween({ minimum: -9999, maximum: 9999 }),
  Schema.makeFilter((year) => year !== 0)
)

/** An ISBN of ten characters. Its check digit is not verified, because real catalogues often have it wrong. */
export const Isbn10 = Schema.String.check(Schema.isPattern(/^[0-9]{9}[0-9X]$/))

/** The maximum length of a title, in code points. */
export const maxTitleLength = 512

/** The maximum length of an author's name, in code points. */
export const maxNameLength = 256

/** The maximum number of authors of a book. */
export const maxAuthors = 100

const controlCharacter = /[\p{Cc}\p{Zl}\p{Zp}]/u

/** A character with a visible glyph. U+2800 is a blank braille pattern. */
const visibleCharacter = /[^\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/u

/** One line of text with at least one visible character, and at most `maxLength` code points. */
const line = (maxLength: number) =>
  Schema.NonEmptyString.check(
    Schema.makeFilter(
      (text) =>
        // a code point is one or two UTF-16 code units, so most texts need no counting
        (text.length <= maxLength || (text.length <= maxLength * 2 && Array.from(text).length <= maxLength)) &&
        !controlCharacter.test(text) &&
        visibleCharacter.test(text)
    )
  )

export const Book = Schema.Struct({
  id: BookId,
  title: line(maxTitleLength),
  /** In the order of the title page. */
  authors: Schema.NonEmptyArray(line(maxNameLength)).check(Schema.isMaxLength(maxAuthors)),
  year: Schema.optionalKey(Year),
  isbn10: Schema.optionalKey(Isbn10),
  categories: Schema.NonEmptyArray(Category).check(Schema.isUnique())
})

export interface Book extends Schema.Schema.Type<typeof Book> {}
