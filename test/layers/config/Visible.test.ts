import { assert, describe, it } from "@effect/vitest"

import * as Visible from "../../../src/layers/config/Visible.ts"

describe("a text in quotes", () => {
  it.each([
    ["control characters", "\u0007\u007F\u009B", String.raw`\u0007\u007f\u009b`],
    ["what JSON escapes", 'a\n"\\', String.raw`a\n\"\\`],
    ["format characters", "\uFEFF\u200B\u202E", String.raw`\ufeff\u200b\u202e`],
    ["spaces other than the usual one", " \u00A0\u3000", String.raw` \u00a0\u3000`],
    ["separators of lines", "\u2028\u2029", String.raw`\u2028\u2029`],
    ["letters that are drawn as nothing", "\u3164\u115F\u2800", String.raw`\u3164\u115f\u2800`],
    ["private, unassigned and lone ones", "\uE000\u0378\uD800", String.raw`\ue000\u0378\ud800`],
    ["those above 16 bits", "\u{E0041}", String.raw`\u{e0041}`]
  ])("shows %s", (_, text, shown) => assert.strictEqual(Visible.quote(text), `"${shown}"`))

  it("keeps what can be seen", () => {
    const text = "Les Misérables: 你好, e\u0301, 😀"
    assert.strictEqual(Visible.quote(text), `"${text}"`)
  })
})
