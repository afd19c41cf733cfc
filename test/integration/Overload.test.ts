/**
 * A server that is offered three times what it can do, as a process of its own.
 */
import { assert, describe, it } from "@effect/vitest"

import { measure, waiting } from "../../bench/overload.ts"

describe("a server that is offered more than it can do", () => {
  it("does what it can, and answers what it accepts in time", async () => {
    const { points, unloaded } = await measure(waiting, [0.8, 1, 1.5, 3])
    const all = [unloaded, ...points.values()]
    const peak = Math.max(...all.map(({ goodput }) => goodput))
    const overloaded = points.get(3)!
    console.log(
      `overload: of ${overloaded.offered.toFixed(0)} calls a second ${overloaded.goodput.toFixed(0)} are answered ` +
        `(at most ${peak.toFixed(0)} ever were), ${overloaded.refused.toFixed(0)} refused, ${overloaded.lost.toFixed(0)} lost; ` +
        `median ${overloaded.median.toFixed(1)} ms (${unloaded.median.toFixed(1)} ms unloaded); ` +
        `memory ${overloaded.memory.toFixed(0)} MiB (${unloaded.memory.toFixed(0)} MiB)`
    )
    // more than a third is left over
    assert.isAbove(overloaded.refused, overloaded.goodput / 2)
    assert.isAtLeast(overloaded.goodput, 0.9 * peak)
    assert.isBelow(overloaded.median, 3 * unloaded.median)
    assert.isBelow(overloaded.memory, unloaded.memory + 200)
  })
})
