/**
 * Sets of categories as small numbers, for many books that share few of them: of any number of categories, which bits would not be.
 */
export interface CategorySets<Category extends string> {
  /** The number of a set, in whatever order its members are. */
  readonly add: (names: ReadonlyArray<Category>) => number
  /** The set of a number, in the order of all categories. */
  readonly get: (number: number) => ReadonlyArray<Category>
}

export const make = <Category extends string>(categories: ReadonlyArray<Category>): CategorySets<Category> => {
  const positions = new Map(categories.map((category, position) => [category, position]))
  const numbers = new Map<string, number>()
  const sets: Array<ReadonlyArray<Category>> = []

  return {
    add: (names) => {
      const sorted =
        names.length === 1 ? names : names.toSorted((one, other) => positions.get(one)! - positions.get(other)!)
      const key = sorted.join(",")
      let number = numbers.get(key)
      if (number === undefined) {
        number = sets.push(sorted) - 1
        numbers.set(key, number)
      }
      return number
    },
    get: (number) => sets[number]!
  }
}
