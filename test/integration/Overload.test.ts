/**
 * A server that is offered three times what it can do, as a process of its own.
 */
import { assert, describe, it } from "@effect/vitest"

import { computing, type Curve, measure, waiting } from "../../bench/overload.ts"

/** Says what came of three times the load, and gives it with the most that was ever answered. */
const summary = (name: string, { points, unloaded }: Curve) => {
  const peak = Math.max(...[unloaded, ...points.values()].map(({ goodput }) => goodput))
  const overloaded = points.get(3)!
  console.log(
    `overload, ${name}: of ${overloaded.offered.toFixed(0)} calls a second ${overloaded.goodput.toFixed(0)} are answered ` +
      `(at most ${peak.toFixed(0)} ever were), ${overloaded.refused.toFixed(0)} refused, ${overloaded.lost.toFixed(0)} lost; ` +
      `median ${overloaded.median.toFixed(1)} ms (${unloaded.median.toFixed(1)} ms unloaded); ` +
      `memory ${overloaded.memory.toFixed(0)} MiB (${unloaded.memory.toFixed(0)} MiB)`
  )
  return { overloaded, peak, unloaded }
}

describe("a server that is offered more than it can do", () => {
  it("does what it can, and answers what it accepts in time", async () => {
    const { overloaded, peak, unloaded } = summary(waiting.name, await measure(waiting, [0.8, 1, 1.5, 3, 1, 3]))
    // more than a third is left over
    assert.isAbove(overloaded.refused, overloaded.goodput / 2)
    assert.isAtLeast(overloaded.goodput, 0.9 * peak)
    assert.isBelow(overloaded.median, 3 * unloaded.median)
    assert.isBelow(overloaded.memory, unloaded.memory + 200)
  })

  it("goes on answering when its handlers leave it no time to spare, and lets no call wait for nothing", async () => {
    const { overloaded, peak, unloaded } = summary(computing.name, await measure(computing, [1, 3, 1, 3, 1, 3]))
    assert.isAbove(overloaded.refused, overloaded.goodput / 2)
    // 0.5 to 0.9, since refusing takes the processor from answering; without a limit a third, and most calls are lost
    assert.isAtLeast(overloaded.goodput, 0.4 * peak)
    assert.isBelow(overloaded.lost, 0.05 * overloaded.offered)
    assert.isBelow(overloaded.memory, unloaded.memory + 200)
  })
})
