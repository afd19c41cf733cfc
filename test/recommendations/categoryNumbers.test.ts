import { assert, it } from "@effect/vitest"

import { categories } from "../../src/domain/Category.ts"
import { categoryByNumber, numberByCategory } from "../../src/recommendations/categoryNumbers.ts"

it("categories are numbered from 1 in the order of the menu", () => {
  assert.deepStrictEqual(
    Array.from(numberByCategory),
    categories.map((category, index) => [category, index + 1])
  )
  assert.deepStrictEqual(
    Array.from(categoryByNumber),
    categories.map((category, index) => [index + 1, category])
  )
})
