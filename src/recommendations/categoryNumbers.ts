/**
 * The enum numbers that onlinebooks.recommendations.v1 gives to the domain's categories.
 */
import { categories, type Category } from "../domain/Category.ts"
import { BookCategory, type BookCategory__Output } from "../generated/v1/onlinebooks/recommendations/v1/BookCategory.ts"

const numbers = new Map<Category, BookCategory__Output>(
  categories.map((category) => [category, BookCategory[`BOOK_CATEGORY_${category}`]])
)

const names = new Map<number, Category>(Array.from(numbers, ([category, number]) => [number, category]))

/** The enum number of a category. */
export const numberOf = (category: Category): BookCategory__Output => numbers.get(category)!

/** The category with an enum number, or undefined if there is none. */
export const categoryOf = (number: number): Category | undefined => names.get(number)
