/**
 * The categories of the shop's books.
 */
import { Schema } from "effect"

/** A category of books; a book has one or more. The order is that of menus and of the API's enum. */
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
