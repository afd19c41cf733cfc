/**
 * Load shedding by the delay of the event loop, which the tests simulate with fake timers.
 */
import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"

import { makeLoadShedder } from "../../../src/layers/http/RequestAdmission.ts"

/** A load shedder whose measurements the test triggers, with the delay that it chooses. */
const measured = (maximum: number) => {
  let measure = () => {}
  let period = 0
  let endTurn = () => {}
  const shedder = makeLoadShedder(maximum, {
    every: (callback, every) => {
      measure = callback
      period = every
      return { close: () => {} }
    },
    afterTurn: (callback) => void (endTurn = callback)
  })
  return {
    ...shedder,
    limit: () => shedder.counts().limit,
    /** Triggers measurements, each late by `delay`, until `milliseconds` have passed. */
    run: (delay: number, milliseconds: number) => {
      for (let passed = 0; passed < milliseconds; passed += period + delay) {
        vi.advanceTimersByTime(period + delay)
        measure()
        endTurn()
      }
    },
    fill: () => {
      let count = 0
      while (shedder.enter()) count++
      return count
    }
  }
}

describe("load shedding", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }))
  afterEach(() => void vi.useRealTimers())

  it("admits up to the limit, and again after a slot is released", () => {
    const { enter, fill, leave } = measured(5)
    assert.strictEqual(fill(), 5)
    leave()
    assert.isTrue(enter())
    assert.isFalse(enter())
  })

  it("lowers the limit while the event loop is late, down to a minimum", () => {
    const { fill, limit, run } = measured(400)
    fill()
    run(60, 200)
    assert.isBelow(limit(), 128)
    run(60, 5_000)
    assert.strictEqual(limit(), 32)
  })

  it("returns to the initial limit after an overload, also without requests", () => {
    const { fill, leave, limit, run } = measured(400)
    const count = fill()
    run(60, 5_000)
    assert.strictEqual(limit(), 32)
    for (let left = count; left > 0; left--) leave()
    run(0, 20_000)
    assert.strictEqual(limit(), 128)
  })

  it("ignores short delays of the event loop", () => {
    const { fill, limit, run } = measured(400)
    fill()
    for (let round = 0; round < 10; round++) {
      run(60, 60)
      run(0, 60)
    }
    assert.isAtLeast(limit(), 128)
  })

  it("raises the limit while it is needed and the event loop is on time", () => {
    const { fill, limit, run } = measured(400)
    run(0, 2_000)
    assert.strictEqual(limit(), 128)
    for (let round = 0; round < 30; round++) {
      fill()
      run(0, 110)
    }
    assert.strictEqual(limit(), 400)
  })

  it("limits the time of accepting requests in one turn of the event loop, more so under overload, but accepts a few", () => {
    const { enter, leave, run } = measured(400)
    /** The number of requests that one turn admits if each takes some milliseconds. */
    const accepted = (duration: number) => {
      let count = 0
      for (let asked = 0; asked < 100; asked++) {
        if (!enter()) continue
        vi.advanceTimersByTime(duration)
        leave()
        count++
      }
      run(0, 1)
      return count
    }
    assert.strictEqual(accepted(10), 11)
    assert.strictEqual(accepted(100), 8)
    run(60, 300)
    assert.strictEqual(accepted(5), 11)
    assert.strictEqual(accepted(10), 8)
    run(0, 300)
    assert.strictEqual(accepted(10), 11)
  })

  it("lowers the limit at once after one long turn of the event loop", () => {
    const { fill, limit, run } = measured(400)
    fill()
    run(400, 1)
    assert.strictEqual(limit(), 32)
  })
})
