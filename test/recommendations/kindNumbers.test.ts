import { assert, describe, it } from "@effect/vitest"

import { FeedbackKind } from "../../src/domain/Feedback.ts"
import { kindByNumber, numberByKind } from "../../src/recommendations/kindNumbers.ts"

describe("kindNumbers", () => {
  // the database has them too
  it("are the positions of the kinds, from 1", () => {
    assert.deepStrictEqual(
      FeedbackKind.literals.map((kind) => numberByKind.get(kind)),
      [1, 2, 3, 4, 5, 6, 7, 8, 9]
    )
  })

  it("convert back", () => {
    for (const [kind, number] of numberByKind) assert.strictEqual(kindByNumber.get(number), kind)
  })
})
