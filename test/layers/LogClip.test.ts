import { assert, describe, it } from "@effect/vitest"

import * as LogClip from "../../src/layers/LogClip.ts"

describe("a text", () => {
  it.each([
    { value: "", limit: 3, clipped: "" },
    { value: "abc", limit: 3, clipped: "abc" },
    { value: "abcd", limit: 3, clipped: "abc... (clipped, 1 more characters)" },
    // never half a character
    { value: "ab😀c", limit: 3, clipped: "ab... (clipped, 3 more characters)" },
    { value: "a😀bc", limit: 3, clipped: "a😀... (clipped, 2 more characters)" }
  ])("$value is clipped to $limit characters", ({ clipped, limit, value }) => {
    assert.strictEqual(LogClip.text(value, limit), clipped)
  })
})

describe("a field", () => {
  it("of another type is kept where its text is short, and is the beginning of its text otherwise", () => {
    const short = { a: [1, 2] }
    assert.strictEqual(LogClip.field(short, 100), short)
    assert.strictEqual(LogClip.field(7, 1), 7)
    assert.strictEqual(LogClip.field(undefined, 1), undefined)
    assert.strictEqual(LogClip.field({ a: "x".repeat(20) }, 10), '{"a":"xxxx... (clipped, 18 more characters)')
  })
})
