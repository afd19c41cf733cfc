/**
 * The categories of the domain, as each of the two APIs numbers them.
 */
import { categories, type Category } from "../domain/Category.ts"
import { BookCategory as First } from "../generated/first/BookCategory.ts"
import {
  BookCategory as V1,
  type BookCategory__Output as V1Number
} from "../generated/v1/onlinebooks/recommendations/v1/BookCategory.ts"

const numbersOfV1 = new Map<Category, V1Number>(
  categories.map((category) => [category, V1[`BOOK_CATEGORY_${category}`]])
)

/** The number of a category in today's API. */
export const toV1 = (category: Category): V1Number => numbersOfV1.get(category)!

const namesOfV1 = new Map<number, Category>(categories.map((category) => [toV1(category), category]))

/** What a number of today's API asks for: undefined is every category; a number that is no category's is its own name. */
export const fromV1 = (number: number): string | undefined =>
  number === V1.BOOK_CATEGORY_UNSPECIFIED ? undefined : (namesOfV1.get(number) ?? String(number))

const namesOfFirst = new Map<number, keyof typeof First & Category>([
  [First.MYSTERY, "MYSTERY"],
  [First.SCIENCE_FICTION, "SCIENCE_FICTION"],
  [First.SELF_HELP, "SELF_HELP"]
])

/** What a number of the first API asks for; it has no number for every category, and knows three. */
export const fromFirst = (number: number): string => namesOfFirst.get(number) ?? String(number)
