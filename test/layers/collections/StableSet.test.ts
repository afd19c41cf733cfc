import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"

import { StableSet } from "../../../src/layers/collections/StableSet.ts"

const members = Array.from({ length: 6 }, (_, name) => ({ name }))

const steps = Arbitrary.array(
  Arbitrary.all({
    what: Arbitrary.schema(Schema.Literals(["add", "delete"])),
    at: Arbitrary.schema(Schema.Literals([0, 1, 2, 3, 4, 5]))
  }),
  { maxLength: 40 }
)

describe("StableSet", () => {
  it.effect.prop("has the same members as a Set after any sequence of additions and removals", [steps], ([steps]) =>
    Effect.sync(() => {
      const set = new Set<object>()
      const stable = new StableSet<object>()
      for (const { at, what } of steps) {
        const member = members[at]!
        if (what === "add") {
          set.add(member)
          stable.add(member)
        } else {
          assert.strictEqual(stable.delete(member), set.delete(member))
        }
        assert.strictEqual(stable.size, set.size)
        assert.sameMembers([...stable], [...set])
        for (const one of members) assert.strictEqual(stable.has(one), set.has(one))
      }
    })
  )

  it("works for objects that are also members of another StableSet", () => {
    const [first, second, third] = members
    const one = new StableSet<object>().add(first!).add(second!)
    const other = new StableSet<object>().add(third!).add(second!).add(first!)
    assert.isTrue(one.delete(first!))
    assert.deepStrictEqual([...one], [second])
    assert.isTrue(one.has(second!))
    assert.isTrue(other.delete(second!))
    assert.isFalse(other.has(second!))
    assert.sameMembers([...other], [first, third])
    assert.deepStrictEqual([...one], [second])
  })

  it("allows the removal of members during iteration", () => {
    const stable = new StableSet<object>()
    for (const member of members) stable.add(member)
    let count = 0
    for (const member of stable) {
      stable.delete(member)
      count++
    }
    assert.deepStrictEqual([count, stable.size], [members.length, 0])
  })
})
