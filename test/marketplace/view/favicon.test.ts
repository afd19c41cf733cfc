import { assert, describe, it } from "@effect/vitest"

import { favicon } from "../../../src/marketplace/view/favicon.ts"

describe("the favicon", () => {
  it("is an ICO file with PNG images of 16 and 32 pixels", () => {
    const bytes = Buffer.from(favicon)
    assert.deepStrictEqual(
      [0, 2, 4].map((offset) => bytes.readUInt16LE(offset)),
      [0, 1, 2]
    )
    let end = 6 + 2 * 16
    for (const [index, size] of [16, 32].entries()) {
      const entry = 6 + index * 16
      assert.strictEqual(bytes[entry], size)
      assert.strictEqual(bytes.readUInt32LE(entry + 12), end)
      assert.strictEqual(bytes.toString("latin1", end, end + 8), "\x89PNG\r\n\x1a\n")
      // the width and height in the PNG's header
      assert.deepStrictEqual([bytes.readUInt32BE(end + 16), bytes.readUInt32BE(end + 20)], [size, size])
      end += bytes.readUInt32LE(entry + 8)
    }
    assert.strictEqual(end, bytes.length)
  })
})
