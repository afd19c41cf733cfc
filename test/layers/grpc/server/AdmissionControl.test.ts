import { assert, describe, it, vi } from "@effect/vitest"
import { Duration, Effect, Schema } from "effect"

import { AdmissionControl, type Candidate, type Limits } from "../../../../src/layers/grpc/server/AdmissionControl.ts"

const Step = Schema.Struct({ client: Schema.Literals(["a", "b", "c"]), leaves: Schema.Boolean })

const limits = { maxConcurrency: 2, maxQueue: 2, maxQueueWait: Duration.hours(1) }

/** Admission control whose calls are entered by name. `notes` records what happens to each. */
const make = (options: Partial<Limits> = {}) => {
  const notes: Array<string> = []
  const admission = new AdmissionControl({ ...limits, ...options })
  const enter = (name: string, client = "a client", onShed = () => {}): Candidate => {
    const call = {
      client,
      run: () => notes.push(`run ${name}`),
      shed: () => {
        notes.push(`shed ${name}`)
        onShed()
      },
      evict: () => notes.push(`evict ${name}`)
    }
    admission.enter(call)
    return call
  }
  return { admission, enter, notes }
}

describe("AdmissionControl", () => {
  it("runs calls up to maxConcurrency, queues up to maxQueue, and sheds the others at once", () => {
    const { admission, enter, notes } = make()
    const [a, b] = [enter("a"), enter("b"), enter("c"), enter("d"), enter("e")]
    assert.deepStrictEqual(notes, ["run a", "run b", "shed e"])
    assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 2, refused: 1 })
    admission.leave(a)
    assert.deepStrictEqual(notes.slice(3), ["run c"])
    admission.leave(b)
    assert.deepStrictEqual(notes.slice(4), ["run d"])
    assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 0, refused: 1 })
  })

  it("frees the place in the queue of a call that ends while queued", () => {
    const { admission, enter, notes } = make()
    const a = enter("a")
    enter("b")
    const c = enter("c")
    enter("d")
    admission.leave(c)
    enter("e")
    admission.leave(a)
    assert.deepStrictEqual(notes, ["run a", "run b", "run d"])
    assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 1, refused: 0 })
  })

  it("ignores a shed call that leaves", () => {
    const { admission, enter } = make({ maxQueue: 0 })
    enter("a")
    enter("b")
    admission.leave(enter("c"))
    assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 0, refused: 1 })
  })

  it.live("sheds calls that have been queued for maxQueueWait, in order", () =>
    Effect.gen(function* () {
      const { admission, enter, notes } = make({ maxQueueWait: Duration.millis(20) })
      enter("a")
      enter("b")
      yield* Effect.callback<void>((resume) => {
        enter("c")
        enter("d", "a client", () => resume(Effect.void))
      })
      assert.deepStrictEqual(notes, ["run a", "run b", "shed c", "shed d"])
      assert.deepStrictEqual(admission.counts(), { answering: 2, waiting: 0, refused: 2 })
    })
  )

  it.live("sheds each call at its own timeout and not before", () =>
    Effect.gen(function* () {
      const now = vi.spyOn(performance, "now").mockReturnValue(0)
      yield* Effect.addFinalizer(() => Effect.sync(() => now.mockRestore()))
      const { admission, enter, notes } = make({ maxConcurrency: 1, maxQueueWait: Duration.millis(20) })
      enter("a")
      yield* Effect.callback<void>((resume) => {
        enter("b", "a client", () => resume(Effect.void))
        now.mockReturnValue(10)
        enter("c", "another client", () => resume(Effect.void))
        now.mockReturnValue(20)
      })
      // after all expired calls were shed
      yield* Effect.yieldNow
      assert.deepStrictEqual(notes, ["run a", "shed b"])
      assert.deepStrictEqual(admission.counts(), { answering: 1, waiting: 1, refused: 1 })
      now.mockReturnValue(30)
      yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => admission.counts().waiting === 0 })
      assert.deepStrictEqual(notes, ["run a", "shed b", "shed c"])
    })
  )

  it("gives slots by round robin over the clients with queued calls", () => {
    const { admission, enter, notes } = make({ maxConcurrency: 1, maxQueue: 9 })
    const running = [enter("greedy 1", "greedy"), enter("greedy 2", "greedy"), enter("greedy 3", "greedy")]
    running.push(enter("good 1", "good"), enter("greedy 4", "greedy"), enter("good 2", "good"))
    const order = ["greedy 1", "greedy 2", "good 1", "greedy 3", "good 2", "greedy 4"]
    for (let count = 1; count <= order.length; count++) {
      assert.deepStrictEqual(
        notes,
        order.slice(0, count).map((name) => `run ${name}`)
      )
      admission.leave(running.find((call) => call.ticket?.state === "running")!)
    }
    assert.deepInclude(admission.counts(), { answering: 0, waiting: 0, refused: 0 })
  })

  it("sheds the latest call of the client with most queued calls when the queue is full", () => {
    const { enter, notes } = make({ maxConcurrency: 1, maxQueue: 3 })
    for (const name of ["1", "2", "3", "4"]) enter(`greedy ${name}`, "greedy")
    enter("good 1", "good")
    enter("good 2", "good")
    assert.deepStrictEqual(notes, ["run greedy 1", "shed greedy 4", "shed good 2"])
  })

  it("leaves slots for other clients, however many calls one client makes", () => {
    const { enter, notes } = make({ maxConcurrency: 8, maxQueue: 8 })
    for (let call = 1; call <= 16; call++) enter(`greedy ${call}`, "greedy")
    enter("good", "good")
    assert.strictEqual(notes.filter((note) => note.startsWith("run greedy")).length, 7)
    assert.include(notes, "run good")
  })

  it("evicts the oldest call of the client with most calls, if calls do not wait", () => {
    const { admission, enter, notes } = make({ maxConcurrency: 4, maxQueue: 0, whenFull: "evict" })
    for (const name of ["1", "2", "3"]) enter(`greedy ${name}`, "greedy")
    enter("good 1", "good")
    enter("other 1", "other")
    enter("other 2", "other")
    assert.deepStrictEqual(notes.slice(4), ["evict greedy 1", "run other 1", "evict greedy 2", "run other 2"])
    enter("other 3", "other")
    assert.deepStrictEqual(notes.slice(8), ["evict other 1", "run other 3"])
    enter("new", "new")
    assert.deepStrictEqual(notes.slice(10), ["evict other 2", "run new"])
    assert.deepStrictEqual(admission.counts(), { answering: 4, waiting: 0, refused: 0 })
  })

  it("evicts a call that has waited a second for its client to read, when another call needs the slot", () => {
    const { admission, enter, notes } = make({ maxConcurrency: 2, maxQueue: 1 })
    const now = vi.spyOn(performance, "now").mockReturnValue(0)
    const stalled = enter("stalled", "slow")
    const other = enter("other", "slow")
    admission.pause(stalled)
    now.mockReturnValue(999)
    enter("early", "good")
    admission.leave(other)
    now.mockReturnValue(1001)
    enter("late", "good")
    now.mockRestore()
    assert.deepStrictEqual(notes, ["run stalled", "run other", "run early", "evict stalled", "run late"])
  })

  it("forgets a client whose last call was shed after its timeout", () => {
    const { admission, enter, notes } = make({ maxConcurrency: 1, maxQueueWait: Duration.millis(50) })
    const now = vi.spyOn(performance, "now").mockReturnValue(0)
    const running = enter("running", "a")
    enter("late", "b")
    now.mockReturnValue(60)
    admission.leave(running)
    now.mockRestore()
    assert.deepStrictEqual(notes, ["run running", "shed late"])
    assert.deepStrictEqual(admission.counts(), { answering: 0, waiting: 0, refused: 1 })
    assert.strictEqual(admission.clients(), 0)
  })

  it("runs a long queue of calls that end at once without recursion", () => {
    const admission = new AdmissionControl({ ...limits, maxConcurrency: 1, maxQueue: 20_000 })
    const first: Candidate = { client: "a", run: () => {}, shed: () => {}, evict: () => {} }
    admission.enter(first)
    let ran = 0
    for (let count = 0; count < 20_000; count++) {
      const call: Candidate = {
        client: "a",
        run: () => {
          ran++
          admission.leave(call)
        },
        shed: () => assert.fail("there is room"),
        evict: () => assert.fail("nothing is paused")
      }
      admission.enter(call)
    }
    admission.leave(first)
    assert.strictEqual(ran, 20_000)
    assert.deepStrictEqual(admission.counts(), { answering: 0, waiting: 0, refused: 0 })
    assert.strictEqual(admission.clients(), 0)
  })

  it("evicts no call of another client for a call above its own client's share", () => {
    const { admission, enter, notes } = make({ maxConcurrency: 8, maxQueue: 8 })
    const now = vi.spyOn(performance, "now").mockReturnValue(0)
    admission.pause(enter("stalled", "slow"))
    for (let call = 1; call <= 7; call++) enter(`greedy ${call}`, "greedy")
    now.mockReturnValue(1001)
    const queued = enter("greedy 8", "greedy")
    now.mockRestore()
    assert.notInclude(notes, "evict stalled")
    assert.strictEqual(queued.ticket?.state, "queued")
  })

  it.prop(
    "never runs more than the limit and forgets every call, for any order of calls",
    [Schema.Array(Step)],
    ([steps]) => {
      let running = 0
      const calls = new Set<Candidate>()
      const admission = new AdmissionControl({ maxConcurrency: 3, maxQueue: 4, maxQueueWait: Duration.hours(1) })
      for (const { client, leaves } of steps) {
        const [first] = calls
        if (leaves && first !== undefined) {
          if (first.ticket?.state === "running") running--
          calls.delete(first)
          admission.leave(first)
        } else {
          const call: Candidate = {
            client,
            run: () => running++,
            shed: () => calls.delete(call),
            evict: () => assert.fail("nothing is paused")
          }
          calls.add(call)
          admission.enter(call)
        }
        assert.isAtMost(running, 3)
        assert.strictEqual(admission.counts().answering, running)
        assert.strictEqual(admission.counts().answering + admission.counts().waiting, calls.size)
        // no call waits while there is a free slot for it
        if (admission.counts().waiting > 0) assert.strictEqual(running, 3)
      }
      for (const call of calls) admission.leave(call)
      assert.deepInclude(admission.counts(), { answering: 0, waiting: 0 })
      assert.strictEqual(admission.clients(), 0)
    }
  )

  it("counts slots of finished calls against clients with many slots only", () => {
    const { admission, enter, notes } = make({ maxConcurrency: 8, maxQueue: 0 })
    const greedy = Array.from({ length: 7 }, (_, call) => enter(`greedy ${call}`, "greedy"))
    const other = enter("other", "other")
    enter("good 1", "good")
    assert.strictEqual(notes.at(-1), "shed good 1")
    for (const call of [...greedy, other]) admission.finish(call)
    enter("greedy", "greedy")
    for (const call of ["good 2", "good 3", "good 4", "good 5", "good 6"]) enter(call, "good")
    assert.deepStrictEqual(notes.slice(-6), [
      "shed greedy",
      "run good 2",
      "run good 3",
      "run good 4",
      "run good 5",
      "shed good 6"
    ])
    for (const call of [...greedy, other]) admission.leave(call)
    assert.deepInclude(admission.counts(), { answering: 4, waiting: 0 })
  })
})
