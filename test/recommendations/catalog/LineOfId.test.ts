import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

import * as LineOfId from "../../../src/recommendations/catalog/LineOfId.ts"

const Few = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 50 }))
const Any = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 2 ** 31 - 1 }))

describe("the line of an id", () => {
  it.effect.prop("is the first that it was on", [Schema.Array(Schema.Union([Few, Any]))], ([ids]) =>
    Effect.sync(() => {
      const lineOfId = LineOfId.make()
      const expected = new Map<number, number>()
      ids.forEach((id, line) => {
        assert.strictEqual(lineOfId.add(id, line), expected.get(id))
        if (!expected.has(id)) expected.set(id, line)
      })
    })
  )

  // steps that a bad hash turns into a walk past all the others
  it.each([1, 2, 3, 64, 1000, 1024, 20_000])("is found among 100,000 ids that are %i apart", (step) => {
    const lineOfId = LineOfId.make()
    const lines = Array.from({ length: 100_000 }, (_, index) => index + 1)
    assert.isTrue(lines.every((line) => lineOfId.add(line * step, line) === undefined))
    assert.isTrue(lines.every((line) => lineOfId.add(line * step, 0) === line))
  })
})
