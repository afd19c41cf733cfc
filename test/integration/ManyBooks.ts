/**
 * Generates catalogue files of any size, the same for the same size.
 */
import { categories } from "../../src/domain/Category.ts"

/** A catalogue file of `count` books. Every category has more than a tenth of them. */
export const manyBooks = (count: number): string => {
  const rows = ["id,title,authors,year,isbn10,categories"]
  for (let id = 1; id <= count; id++) {
    const shelves = [categories[id % 13], categories[(id * 7 + 3) % 13]].filter(
      (name, i, all) => all.indexOf(name) === i
    )
    const title = id % 10 === 0 ? `"The ""Big"" Book, volume ${id}"` : `The Book of ${id}`
    const year = id % 17 === 0 ? "" : String((id % 2500) - 400 || 1)
    rows.push(`${id},${title},"Author ${id % 997}, Author ${id % 89}",${year},,${shelves.join(";")}`)
  }
  return `${rows.join("\n")}\n`
}
