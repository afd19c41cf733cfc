import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"

import { Book } from "../../src/domain/Book.ts"
import { categories, labels } from "../../src/domain/Category.ts"

const isBook = Schema.is(Book)
const good = { id: 1, title: "A", authors: ["B"], categories: ["MYSTERY"] }

describe("Book", () => {
  it("has a year and an ISBN only where they are known", () => {
    assert.isTrue(isBook(good))
    assert.isTrue(isBook({ ...good, year: -720, isbn10: "080442957X" }))
  })

  it.each([
    { id: 0 },
    { id: 2_147_483_648 },
    { id: 1.5 },
    { title: "" },
    { authors: [] },
    { authors: ["A", ""] },
    { year: 0 },
    { year: 10_000 },
    { year: 1999.5 },
    { isbn10: "123" },
    { isbn10: "08044295XX" },
    { categories: [] },
    { categories: ["COOKING"] },
    { categories: ["HORROR", "HORROR"] }
  ])("is none with %o", (bad) => {
    assert.isFalse(isBook({ ...good, ...bad }))
  })
})

describe("Category", () => {
  it("has a label of its own for every category", () => {
    assert.strictEqual(new Set(categories.map((category) => labels[category])).size, 13)
  })
})
