import { assert, describe, it } from "@effect/vitest"

import * as ConnectionTable from "../../../../src/layers/grpc/server/ConnectionTable.ts"

const limits: ConnectionTable.Limits = {
  maxConnections: 6,
  maxConnectionsPerAddress: 4,
  maxHandshakes: 3,
  maxHandshakesPerAddress: 2
}

const setUp = (overrides: Partial<ConnectionTable.Limits> = {}) => {
  const evicted: Array<string> = []
  const table = ConnectionTable.make<string>({ ...limits, ...overrides }, ({ connection }, limit) =>
    evicted.push(`${connection} ${limit}`)
  )
  /** Adds connections that are served: "a1" is one of the address "a". */
  const add = (state: ConnectionTable.State, ...names: ReadonlyArray<string>) =>
    names.map((name) => {
      const tracked = table.add(name, name[0]!, state === "handshake" ? state : "unused")
      table.move(tracked, state)
      return tracked
    })
  return { add, evicted, table }
}

describe("at the limit of an address", () => {
  it("what has never had a call goes first, the oldest of it", () => {
    const { add, evicted, table } = setUp()
    add("busy", "a1")
    add("idle", "a2")
    add("unused", "a3", "a4", "a5", "a6")
    assert.deepStrictEqual(evicted, ["a3 maxConnectionsPerAddress", "a4 maxConnectionsPerAddress"])
    assert.strictEqual(table.size(), 4)
  })

  it("then what has been idle the longest", () => {
    const { add, evicted } = setUp()
    const [a1] = add("idle", "a1", "a2")
    add("busy", "a3", "a4")
    a1!.since = performance.now()
    add("unused", "a5")
    assert.deepStrictEqual(evicted, ["a1 maxConnectionsPerAddress"])
  })

  it("then the new one: calls are not lost for it", () => {
    const { add, evicted, table } = setUp()
    add("busy", "a1", "a2", "a3", "a4")
    add("unused", "a5")
    assert.deepStrictEqual(evicted, ["a5 maxConnectionsPerAddress"])
    assert.strictEqual(table.size(), 4)
  })
})

describe("at the limit of all", () => {
  it("the address that holds the most loses one, the newest if all have calls", () => {
    const { add, evicted } = setUp()
    add("busy", "a1", "a2", "a3", "a4")
    add("unused", "b1", "b2", "c1")
    assert.deepStrictEqual(evicted, ["a4 maxConnections"])
    add("unused", "d1")
    // now "a" has three, "b" two
    assert.deepStrictEqual(evicted.slice(1), ["a3 maxConnections"])
  })

  it("of equally many, the one that has been unused the longest goes, and none that has calls", () => {
    const { add, evicted } = setUp({ maxConnections: 3 })
    add("busy", "a1")
    add("unused", "b1")
    add("unused", "c1", "d1")
    assert.deepStrictEqual(evicted, ["b1 maxConnections"])
    const busy = setUp({ maxConnections: 2 })
    busy.add("busy", "a1", "b1")
    busy.add("unused", "c1")
    assert.deepStrictEqual(busy.evicted, ["c1 maxConnections"])
  })

  it("one address cannot keep out others, however fast it connects", () => {
    const { add, evicted, table } = setUp()
    add("busy", "z1")
    for (let i = 0; i < 1_000; i++) add("unused", `a${i}`)
    add("unused", "z2")
    assert.strictEqual(table.size(), 6)
    assert.isTrue(evicted.every((name) => name.startsWith("a")))
  })
})

describe("TLS handshakes", () => {
  it("are limited by address and in all: the oldest of whoever has the most is given up", () => {
    const { add, evicted, table } = setUp()
    const [a1, a2] = add("handshake", "a1", "a2")
    add("handshake", "a3")
    assert.deepStrictEqual(evicted, ["a1 maxHandshakesPerAddress"])
    add("handshake", "b1")
    assert.strictEqual(table.handshakes(), 3)
    add("handshake", "c1")
    assert.deepStrictEqual(evicted.slice(1), ["a2 maxHandshakes"])
    // what has been evicted leaves but once
    table.remove(a1!)
    table.remove(a2!)
    table.move(a2!, "busy")
    assert.strictEqual(table.size(), 3)
  })

  it("make room when they are complete or over", () => {
    const { add, evicted, table } = setUp()
    const [a1, a2] = add("handshake", "a1", "a2")
    table.move(a1!, "unused")
    table.remove(a2!)
    add("handshake", "a3", "a4")
    assert.deepStrictEqual(evicted, [])
    assert.strictEqual(table.handshakes(), 2)
    assert.strictEqual(table.size(), 3)
  })
})
