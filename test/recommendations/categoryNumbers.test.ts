import { assert, it } from "@effect/vitest"

import { categories } from "../../src/domain/Category.ts"
import { categoryOf, numberOf } from "../../src/recommendations/categoryNumbers.ts"

it("categories are numbered from 1 in the order of the menu", () => {
  assert.deepStrictEqual(
    categories.map(numberOf),
    categories.map((_, index) => index + 1)
  )
  assert.deepStrictEqual(
    categories.map((category) => categoryOf(numberOf(category))),
    [...categories]
  )
  assert.isUndefined(categoryOf(0))
  assert.isUndefined(categoryOf(14))
})
