import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"

import { Book } from "../../src/domain/Book.ts"

const isBook = Schema.is(Book)
const good = { id: 1, title: "A", authors: ["B"], categories: ["MYSTERY"] }

describe("Book", () => {
  it("may lack a year and an ISBN", () => {
    assert.isTrue(isBook(good))
    assert.isTrue(isBook({ ...good, year: -720, isbn10: "080442957X" }))
  })

  it("has a title of at most 512 code points", () => {
    for (const title of ["x".repeat(512), "😀".repeat(512), `${"x".repeat(511)}😀`]) {
      assert.isTrue(isBook({ ...good, title }))
      assert.isFalse(isBook({ ...good, title: `${title}x` }))
    }
  })

  it("has at most 100 authors, with names of at most 256 code points", () => {
    assert.isTrue(isBook({ ...good, authors: Array.from({ length: 100 }, () => "😀".repeat(256)) }))
  })

  it.each([
    // joiners, and combining marks
    "👩‍👧 می‌خواهم",
    "e\u0301",
    // one visible character is enough
    "\u200B.\u3164"
  ])("accepts the text %j", (title) => {
    assert.isTrue(isBook({ ...good, title, authors: [title] }))
  })

  it.each([
    // line breaks and control characters
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
    // no visible character
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
  ])("rejects the text %j as a title and as a name", (text) => {
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
  ])("rejects %o", (bad) => {
    assert.isFalse(isBook({ ...good, ...bad }))
  })
})
