/**
 * The shelves of the shop.
 */
import { Schema } from "effect"

/** What a book is about. A book stands on the shelf of each of its categories; the order here is the order of the menu. */
export const Category = Schema.Literals([
  "MYSTERY",
  "SCIENCE_FICTION",
  "SELF_HELP",
  "FANTASY",
  "ROMANCE",
  "THRILLER",
  "HISTORICAL_FICTION",
  "CLASSICS",
  "HISTORY",
  "BIOGRAPHY",
  "YOUNG_ADULT",
  "CHILDREN",
  "HORROR"
])

export type Category = typeof Category.Type

/** Every category, in the order of the menu. */
export const categories: ReadonlyArray<Category> = Category.literals

/** What a reader calls a category, to be followed by "books". */
export const labels: { readonly [K in Category]: string } = {
  MYSTERY: "Mystery",
  SCIENCE_FICTION: "Science fiction",
  SELF_HELP: "Self-help",
  FANTASY: "Fantasy",
  ROMANCE: "Romance",
  THRILLER: "Thriller",
  HISTORICAL_FICTION: "Historical fiction",
  CLASSICS: "Classics",
  HISTORY: "History",
  BIOGRAPHY: "Biography",
  YOUNG_ADULT: "Young adult",
  CHILDREN: "Children's",
  HORROR: "Horror"
}
