/**
 * The enum numbers of the domain's categories in onlinebooks.recommendations.v1.
 */
import { categories, type Category } from "../domain/Category.ts"
import { BookCategory, type BookCategory__Output } from "../generated/v1/onlinebooks/recommendations/v1/BookCategory.ts"

/** The enum number of each category. */
export const numberByCategory: ReadonlyMap<Category, BookCategory__Output> = new Map(
  categories.map((category) => [category, BookCategory[`BOOK_CATEGORY_${category}`]])
)

/** The category of each enum number. */
export const categoryByNumber: ReadonlyMap<number, Category> = new Map(
  Array.from(numberByCategory, ([category, number]) => [number, category])
)

/** The name of the category of a request; undefined means all books. The domain refuses the number of an unknown category as its name. */
export const categoryNameOf = (number: number): string | undefined =>
  number === 0 ? undefined : (categoryByNumber.get(number) ?? String(number))
