import { assert, describe, it } from "@effect/vitest"

import { quoteText } from "../../../src/layers/config/quoteText.ts"

describe("quoteText", () => {
  it.each([
    ["control characters", "\u0007\u007F\u009B", String.raw`\u0007\u007f\u009b`],
    ["characters that JSON escapes", 'a\n"\\', String.raw`a\n\"\\`],
    ["format characters", "\uFEFF\u200B\u202E", String.raw`\ufeff\u200b\u202e`],
    ["spaces other than U+0020", " \u00A0\u3000", String.raw` \u00a0\u3000`],
    ["line separators", "\u2028\u2029", String.raw`\u2028\u2029`],
    ["letters without a glyph", "\u3164\u115F\u2800", String.raw`\u3164\u115f\u2800`],
    ["private use, unassigned and surrogate code points", "\uE000\u0378\uD800", String.raw`\ue000\u0378\ud800`],
    ["code points above U+FFFF", "\u{E0041}", String.raw`\u{e0041}`]
  ])("escapes %s", (_, text, shown) => assert.strictEqual(quoteText(text), `"${shown}"`))

  it("keeps visible characters", () => {
    const text = "Les Misérables: 你好, e\u0301, 😀"
    assert.strictEqual(quoteText(text), `"${text}"`)
  })
})
