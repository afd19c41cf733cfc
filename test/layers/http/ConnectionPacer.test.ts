import { assert, describe, it } from "@effect/vitest"

import * as ConnectionPacer from "../../../src/layers/http/ConnectionPacer.ts"

const make = () => {
  let time = 0
  const waiting: Array<{ readonly at: number; readonly callback: () => void }> = []
  const pacer = ConnectionPacer.make({
    now: () => time,
    after: (callback, millis) => void waiting.push({ at: time + millis, callback })
  })
  const read: Array<string> = []
  const admit = (address: string, name: string) => pacer.admit(address, () => read.push(`${name} at ${time}`))
  const runUntil = (end: number) => {
    for (const { at, callback } of waiting.splice(0)) {
      time = at
      callback()
    }
    time = end
  }
  return { admit, pacer, read, runUntil }
}

describe("ConnectionPacer", () => {
  it("reads connections of a flooding address at intervals, and those of other addresses at once", () => {
    const { admit, pacer, read, runUntil } = make()
    admit("a", "before")
    pacer.flooded("a")
    for (const name of ["first", "second", "third"]) admit("a", name)
    admit("b", "other")
    runUntil(1_000)
    assert.deepStrictEqual(read, ["before at 0", "other at 0", "first at 200", "second at 400", "third at 600"])
    admit("a", "later")
    assert.strictEqual(read.at(-1), "later at 1000")
  })

  it("stops pacing an address ten seconds after its last flood", () => {
    const { admit, pacer, read, runUntil } = make()
    pacer.flooded("a")
    runUntil(9_000)
    pacer.flooded("a")
    runUntil(18_000)
    admit("a", "first")
    admit("a", "second")
    assert.deepStrictEqual(read, ["first at 18000"])
    runUntil(30_000)
    admit("a", "third")
    admit("a", "fourth")
    assert.deepStrictEqual(read.slice(2), ["third at 30000", "fourth at 30000"])
  })

  it("remembers a bounded number of addresses", () => {
    const { admit, pacer, read } = make()
    for (let address = 0; address <= 1_000; address++) pacer.flooded(String(address))
    admit("0", "the oldest")
    admit("1", "another")
    assert.deepStrictEqual(read, ["the oldest at 0"])
  })
})
