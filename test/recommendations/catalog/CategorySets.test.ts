import { assert, describe, it } from "@effect/vitest"

import * as CategorySets from "../../../src/recommendations/catalog/CategorySets.ts"

describe("sets of categories", () => {
  it("are told apart, however many categories there are", () => {
    const categories = Array.from({ length: 80 }, (_, index) => `CATEGORY_${index}`)
    const sets = CategorySets.make(categories)
    const pairs = categories.flatMap((one, index) => [[one], [categories[(index + 32) % 80]!, one]])
    const numbers = pairs.map((pair) => sets.add(pair))
    assert.strictEqual(new Set(numbers).size, 160)
    for (const [index, pair] of pairs.entries()) {
      assert.deepStrictEqual(
        sets.get(numbers[index]!),
        categories.filter((category) => pair.includes(category))
      )
    }
  })

  it("are the same in any order", () => {
    const sets = CategorySets.make(["A", "B", "C"])
    const number = sets.add(["C", "A"])
    assert.strictEqual(sets.add(["A", "C"]), number)
    assert.deepStrictEqual(sets.get(number), ["A", "C"])
    assert.notStrictEqual(sets.add(["A", "B"]), number)
  })
})
