/**
 * Runs {@link ./ManyCalls.ts}, as a process of its own that is told when to collect garbage, and judges what it has found.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import type { Report } from "./ManyCalls.ts"

/** After so many calls, there is what there was when the process had warmed up, and 5 % more heap at the most. */
export const leavesNothing = Effect.fnUntraced(
  function* (calls: number) {
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const program = fileURLToPath(new URL("ManyCalls.ts", import.meta.url))
    // Stacks of errors that nobody looks at, and small heaps for what lives shortly, are most of the time.
    const flags = ["--expose-gc", "--stack-trace-limit=0", "--max-semi-space-size=64"]
    const handle = yield* spawner.spawn(ChildProcess.make(process.execPath, [...flags, program, String(calls)]))
    const [stdout, stderr] = yield* Effect.all(
      [Stream.mkString(Stream.decodeText(handle.stdout)), Stream.mkString(Stream.decodeText(handle.stderr))],
      { concurrency: "unbounded" }
    )
    assert.strictEqual(yield* handle.exitCode, 0, stderr)
    const { after, before, outcomes, seconds }: Report = JSON.parse(stdout)
    const shares = Object.entries(outcomes).map(([outcome, count]) => `${outcome}: ${count}`)
    const growth = after.heapUsed / before.heapUsed - 1
    yield* Effect.logInfo(
      `${calls} calls in ${seconds.toFixed(0)} s (${shares.join(", ")}): the heap of ${before.heapUsed} bytes grew by ${(growth * 100).toFixed(2)} %`
    )
    // what was asked for is what happened
    assert.hasAllKeys(outcomes, ["OK", "cancelled", "DeadlineExceeded"])
    assert.approximately(outcomes["cancelled"]! / calls, 1 / 3, 0.02)
    assert.approximately(outcomes["DeadlineExceeded"]! / calls, 1 / 10, 0.01)

    assert.strictEqual(after.handlers, 0)
    assert.strictEqual(after.streams, 0)
    assert.deepStrictEqual(after.load, { answering: 0, waiting: 0, refused: 0 })
    assert.strictEqual(after.fibers, before.fibers)
    assert.deepStrictEqual(resourcesOf(after), resourcesOf(before))
    assert.isAtMost(growth, 0.05)
  },
  Effect.scoped,
  Effect.provide(NodeServices.layer)
)

/** What keeps a process alive. Whatever looks at a file from time to time is either asleep or reads it. */
const resourcesOf = ({ resources: { FSReqCallback = 0, Timeout = 0, ...others } }: Report["before"]) => ({
  ...others,
  periodic: FSReqCallback + Timeout
})
