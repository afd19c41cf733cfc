import { assert, describe, it } from "@effect/vitest"

import { CallBudget, type BudgetedCall } from "../../../../src/layers/grpc/server/CallBudget.ts"

const make = (maxBytes: number) => {
  const evicted: Array<string> = []
  const budget = new CallBudget(maxBytes)
  const open = (name: string, client: string, bytes: number) => {
    const call: BudgetedCall = { client, evict: () => evicted.push(name) }
    return { call, isOpen: budget.open(call, bytes) }
  }
  const wait = (name: string, client: string, bytes: number) => {
    const { call } = open(name, client, bytes)
    budget.setWaiting(call, true)
    return call
  }
  return { budget, evicted, open, wait }
}

describe("CallBudget", () => {
  it("evicts the longest waiting call of the client that holds most", () => {
    const { budget, evicted, wait } = make(100)
    wait("good", "good", 30)
    wait("greedy 1", "greedy", 30)
    wait("greedy 2", "greedy", 30)
    assert.deepStrictEqual(evicted, [])
    wait("new", "new", 20)
    assert.deepStrictEqual(evicted, ["greedy 1"])
    assert.deepStrictEqual(budget.counts(), { bytes: 80, evicted: 1 })
  })

  it("evicts waiting calls before active ones, and no call of a client that holds less", () => {
    const { budget, evicted, open, wait } = make(100)
    wait("good", "good", 10)
    open("active 1", "greedy", 30)
    open("active 2", "greedy", 30)
    wait("waiting", "greedy", 20)
    open("new 1", "new", 20)
    open("new 2", "new", 20)
    assert.deepStrictEqual(evicted, ["waiting", "active 1"])
    assert.deepStrictEqual(budget.counts(), { bytes: 80, evicted: 2 })
  })

  it("rejects a call that would be the first to be evicted", () => {
    const { budget, evicted, open, wait } = make(100)
    wait("good", "good", 10)
    assert.isFalse(open("refused", "other", 95).isOpen)
    assert.deepStrictEqual(evicted, [])
    assert.deepStrictEqual(budget.counts(), { bytes: 10, evicted: 0 })
  })

  it("evicts a call whose own bytes exceed the budget", () => {
    const { budget, evicted, wait } = make(100)
    wait("good", "good", 40)
    const greedy = wait("greedy", "greedy", 10)
    budget.add(greedy, 60)
    budget.add(greedy, 60)
    assert.deepStrictEqual(evicted, ["greedy"])
    assert.deepStrictEqual(budget.counts(), { bytes: 40, evicted: 1 })
  })

  it("subtracts released bytes, and ignores changes of a closed call", () => {
    const { budget, open, wait } = make(100)
    const call = wait("call", "a client", 50)
    budget.setWaiting(call, false)
    budget.add(call, -20)
    assert.strictEqual(budget.counts().bytes, 30)
    budget.close(call)
    budget.add(call, 70)
    budget.close(call)
    assert.strictEqual(budget.counts().bytes, 0)
    assert.isTrue(open("another", "a client", 100).isOpen)
  })
})
