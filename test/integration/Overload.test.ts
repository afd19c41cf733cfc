/**
 * A server process under three times the load that it can serve.
 */
import { assert, describe, it } from "@effect/vitest"

import { computing, type Curve, measure, waiting } from "../../bench/overload.ts"

/** Logs the results under three times the load, and returns them with the best throughput. */
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

describe("an overloaded server", () => {
  it("keeps most of its throughput, and answers accepted calls in time", async () => {
    const { overloaded, peak, unloaded } = summary(waiting.name, await measure(waiting, [0.8, 1, 1.5, 3, 1, 3]))
    // at three times the load, much more than a third is refused
    assert.isAbove(overloaded.refused, overloaded.goodput / 2)
    assert.isAtLeast(overloaded.goodput, 0.9 * peak)
    assert.isBelow(overloaded.median, 3 * unloaded.median)
    assert.isBelow(overloaded.memory, unloaded.memory + 200)
  })

  it("keeps answering when handlers use all of its CPU, and does not queue calls in vain", async () => {
    const { overloaded, peak, unloaded } = summary(computing.name, await measure(computing, [1, 3, 1, 3, 1, 3]))
    assert.isAbove(overloaded.refused, overloaded.goodput / 2)
    // refusing takes CPU from answering; without a limit the goodput is lower still, and most calls are lost
    assert.isAtLeast(overloaded.goodput, 0.4 * peak)
    assert.isBelow(overloaded.lost, 0.05 * overloaded.offered)
    assert.isBelow(overloaded.memory, unloaded.memory + 200)
  })
})
