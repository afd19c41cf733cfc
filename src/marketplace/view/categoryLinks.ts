/**
 * The label of a category, and the link to its page.
 */
import { categories, type Category } from "../../domain/Category.ts"
import { slugOf } from "../categorySlug.ts"
import { html, type Html, type Value } from "./Html.ts"

/** The label of each category, to be followed by "books". */
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

/** The address of a category's page. */
export const pathOf = (category: Category): string => `/?category=${slugOf(category)}`

/** A link to the page of each category. */
export const links: ReadonlyMap<Category, Html> = new Map(
  categories.map((category) => [category, html`<a href="${pathOf(category)}">${labels[category]}</a>`])
)

/** The links of categories, separated by commas and followed by `end`. No line breaks between a link and its punctuation. */
export const linkList = (categories: ReadonlyArray<Category>, end = ""): Value => {
  const last = categories.length - 1
  return categories.map(
    (category, at) => html`${at > 0 && " "}<span class="item">${links.get(category)}${at < last ? "," : end}</span>`
  )
}
