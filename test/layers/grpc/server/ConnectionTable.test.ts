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
  const use = (tracked: ConnectionTable.Tracked<string>, state: "idle" | "busy") => {
    table.move(tracked, "used")
    tracked.openCalls = state === "busy" ? 1 : 0
    tracked.since = performance.now()
  }
  /** Adds connections in a state. The first letter of a name is the address: "a1" is a connection of "a". */
  const add = (state: ConnectionTable.State, ...names: ReadonlyArray<string>) =>
    names.map((name) => {
      const tracked = table.add(name, name[0]!, state === "handshake" ? state : "unused")
      if (state === "idle" || state === "busy") use(tracked, state)
      return tracked
    })
  return { add, evicted, table, use }
}

describe("above maxConnectionsPerAddress", () => {
  it("evicts the oldest connection that has never had a call", () => {
    const { add, evicted, table } = setUp()
    add("busy", "a1")
    add("idle", "a2")
    add("unused", "a3", "a4", "a5", "a6")
    assert.deepStrictEqual(evicted, ["a3 maxConnectionsPerAddress", "a4 maxConnectionsPerAddress"])
    assert.strictEqual(table.size(), 4)
  })

  it("evicts the connection that has been idle longest if all have had calls", () => {
    const { add, evicted, use } = setUp()
    const [a1] = add("idle", "a1", "a2", "a3")
    add("busy", "a4")
    use(a1!, "busy")
    use(a1!, "idle")
    add("unused", "a5")
    assert.deepStrictEqual(evicted, ["a2 maxConnectionsPerAddress"])
  })

  it("evicts the new connection if all others have calls in flight", () => {
    const { add, evicted, table } = setUp()
    add("busy", "a1", "a2", "a3", "a4")
    add("unused", "a5")
    assert.deepStrictEqual(evicted, ["a5 maxConnectionsPerAddress"])
    assert.strictEqual(table.size(), 4)
  })
})

describe("above maxConnections", () => {
  it("evicts from the address that holds most, its newest connection if all have calls in flight", () => {
    const { add, evicted } = setUp()
    add("busy", "a1", "a2", "a3", "a4")
    add("unused", "b1", "b2", "c1")
    assert.deepStrictEqual(evicted, ["a4 maxConnections"])
    add("unused", "d1")
    // "a" holds three now, and "b" two
    assert.deepStrictEqual(evicted.slice(1), ["a3 maxConnections"])
  })

  it("evicts the connection that has been unused longest if addresses hold equally many, but none with calls in flight", () => {
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

  it("evicts only connections of an address that connects quickly, not those of others", () => {
    const { add, evicted, table } = setUp()
    add("busy", "z1")
    for (let i = 0; i < 1_000; i++) add("unused", `a${i}`)
    add("unused", "z2")
    assert.strictEqual(table.size(), 6)
    assert.isTrue(evicted.every((name) => name.startsWith("a")))
  })
})

describe("TLS handshakes", () => {
  it("above a limit evict the oldest one of the address that has most", () => {
    const { add, evicted, table } = setUp()
    const [a1, a2] = add("handshake", "a1", "a2")
    add("handshake", "a3")
    assert.deepStrictEqual(evicted, ["a1 maxHandshakesPerAddress"])
    add("handshake", "b1")
    assert.strictEqual(table.handshakes(), 3)
    add("handshake", "c1")
    assert.deepStrictEqual(evicted.slice(1), ["a2 maxHandshakes"])
    // evicted connections are removed only once
    table.remove(a1!)
    table.remove(a2!)
    table.move(a2!, "used")
    assert.strictEqual(table.size(), 3)
  })

  it("no longer count once they have completed or failed", () => {
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
