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

  it("has a title of up to 512 characters, of whatever size", () => {
    for (const title of ["x".repeat(512), "😀".repeat(512), `${"x".repeat(511)}😀`]) {
      assert.isTrue(isBook({ ...good, title }))
      assert.isFalse(isBook({ ...good, title: `${title}x` }))
    }
  })

  it("has up to a hundred authors, with names of up to 256 characters", () => {
    assert.isTrue(isBook({ ...good, authors: Array.from({ length: 100 }, () => "😀".repeat(256)) }))
  })

  it.each([
    // joiners, and marks that need something to stand on
    "👩‍👧 می‌خواهم",
    "e\u0301",
    // one character that can be seen is enough
    "\u200B.\u3164"
  ])("may be called %j", (title) => {
    assert.isTrue(isBook({ ...good, title, authors: [title] }))
  })

  it.each([
    // more than one line, or what controls a terminal
    "A\nB",
    "A\rB",
    "A\tB",
    "A\u0000B",
    "A\u001B[2JB",
    "A\u007FB",
    "A\u0085B",
    "A\u009BB",
    "A\u2028B",
    "A\u2029B",
    // nothing to see
    " ",
    "\u00A0",
    "\u3000",
    "\u200B\u200D",
    "\uFEFF",
    "\u202E",
    "\u2800",
    "\u3164",
    "\u115F\u1160",
    "\u034F",
    "\uFE0F",
    "\uE000",
    "\uD800"
  ])("is not called %j, nor by that name", (text) => {
    assert.isFalse(isBook({ ...good, title: text }))
    assert.isFalse(isBook({ ...good, authors: ["B", text] }))
  })

  it.each([
    { id: 0 },
    { id: 2_147_483_648 },
    { id: 1.5 },
    { title: "" },
    { authors: [] },
    { authors: ["A", ""] },
    { authors: ["x".repeat(257)] },
    { authors: Array.from({ length: 101 }, () => "A") },
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
