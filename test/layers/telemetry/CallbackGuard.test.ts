import { EventEmitter } from "node:events"

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

import * as CallbackGuard from "../../../src/layers/telemetry/CallbackGuard.ts"
import * as Logs from "./Logs.ts"

const guarding = <A>(test: (guard: CallbackGuard.Guard, logs: Logs.Recorder) => A) => {
  const logs = Logs.recorder()
  return Effect.context<never>().pipe(
    Effect.map((context) => test(CallbackGuard.make(context), logs)),
    Effect.provide(logs.layer)
  )
}

describe("a guarded callback", () => {
  it.effect("passes its arguments on and logs nothing on success", () =>
    guarding((guard, logs) => {
      const seen: Array<unknown> = []
      const emitter = new EventEmitter()
      emitter.on(
        "event",
        guard("listener", (...args) => void seen.push(args))
      )
      emitter.emit("event", 1, "two")
      assert.deepStrictEqual(seen, [[1, "two"]])
      assert.deepStrictEqual(logs.lines(), [])
    })
  )

  it.effect("logs an exception with annotations, and recovers", () =>
    guarding((guard, logs) => {
      const closed: Array<number> = []
      const emitter = new EventEmitter()
      emitter.on(
        "event",
        guard(
          "listener",
          (_id: number) => {
            throw new Error("a bug")
          },
          { annotations: (id) => ({ call: id }), recover: (id) => closed.push(id) }
        )
      )
      emitter.emit("event", 7)
      assert.deepStrictEqual(closed, [7])
      const [line] = logs.lines()
      assert.strictEqual(line?.level, "ERROR")
      assert.strictEqual(line?.message, "Exception in a callback: listener")
      assert.strictEqual(line?.annotations["call"], 7)
      assert.match(line?.cause ?? "", /a bug/)
    })
  )

  it.effect("does not throw when its annotations and its recovery throw", () =>
    guarding((guard, logs) => {
      const fail = () => {
        throw new Error("another bug")
      }
      guard("listener", fail, { annotations: fail, recover: fail })()
      assert.deepStrictEqual(
        logs.lines().map(({ message }) => message),
        ["Exception in a callback: listener", "Exception in a callback: listener, while recovering"]
      )
    })
  )
})
