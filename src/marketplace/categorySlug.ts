/**
 * Categories in the addresses of pages: SCIENCE_FICTION is `/?category=science-fiction`.
 */
import { categories, type Category } from "../domain/Category.ts"

export const slugOf = (category: Category): string => category.toLowerCase().replaceAll("_", "-")

const bySlug: ReadonlyMap<string, Category> = new Map(categories.map((category) => [slugOf(category), category]))

/**
 * The category of a slug. Users may type addresses, so case, spaces, underscores, and white space and slashes at both ends are tolerated,
 * so `/?category=Mystery` is not reported as unknown.
 */
export const categoryOfSlug = (slug: string): Category | undefined =>
  bySlug.get(
    trim(slug)
      .toLowerCase()
      .replaceAll(/[\s_]+/gu, "-")
  )

/** Removes white space and slashes at both ends, in linear time, unlike a regular expression for the end. */
const trim = (text: string): string => {
  let begin = 0
  let end = text.length
  while (begin < end && /[\s/]/u.test(text[begin]!)) begin++
  while (end > begin && /[\s/]/u.test(text[end - 1]!)) end--
  return text.slice(begin, end)
}
