import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"

import * as Admission from "../../src/layers/Admission.ts"

const limits = { maxConcurrency: 2, maxQueue: 2, maxQueueWait: Duration.hours(1) }

/** Lets calls enter by name, and notes what becomes of them. */
const make = (options: Partial<Admission.Limits> = {}) => {
  const notes: Array<string> = []
  const admission = Admission.make({ ...limits, ...options })
  const enter = (name: string, onRefuse = () => {}): Admission.Candidate => {
    const call = {
      proceed: () => notes.push(`start ${name}`),
      refuse: () => {
        notes.push(`refuse ${name}`)
        onRefuse()
      },
      evict: () => notes.push(`evict ${name}`)
    }
    admission.enter(call)
    return call
  }
  return { admission, enter, notes }
}

describe("admission", () => {
  it("starts calls up to the limit, lets some wait in turn, and refuses the others at once", () => {
    const { admission, enter, notes } = make()
    const [a, b] = [enter("a"), enter("b"), enter("c"), enter("d"), enter("e")]
    assert.deepStrictEqual(notes, ["start a", "start b", "refuse e"])
    assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 2, refused: 1 })
    admission.leave(a)
    assert.deepStrictEqual(notes.slice(3), ["start c"])
    admission.leave(b)
    assert.deepStrictEqual(notes.slice(4), ["start d"])
    assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 0, refused: 1 })
  })

  it("forgets a call that ends while it waits, and gives its place to another", () => {
    const { admission, enter, notes } = make()
    const a = enter("a")
    enter("b")
    const c = enter("c")
    enter("d")
    admission.leave(c)
    enter("e")
    admission.leave(a)
    assert.deepStrictEqual(notes, ["start a", "start b", "start d"])
    assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 1, refused: 0 })
  })

  it("takes nothing back from a call that was refused", () => {
    const { admission, enter } = make({ maxQueue: 0 })
    enter("a")
    enter("b")
    admission.leave(enter("c"))
    assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 0, refused: 1 })
  })

  it.live("refuses a call that has waited too long, and those after it in turn", () =>
    Effect.gen(function* () {
      const { admission, enter, notes } = make({ maxQueueWait: Duration.millis(20) })
      enter("a")
      enter("b")
      yield* Effect.callback<void>((resume) => {
        enter("c")
        enter("d", () => resume(Effect.void))
      })
      assert.deepStrictEqual(notes, ["start a", "start b", "refuse c", "refuse d"])
      assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 0, refused: 2 })
    })
  )
})
