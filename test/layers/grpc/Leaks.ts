/**
 * Runs {@link ./ManyCalls.ts} in a process of its own, with access to the garbage collector, and checks its report.
 */
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import type { Report } from "./ManyCalls.ts"

/** Asserts that `calls` calls leave no fibers, handlers, streams or resources behind, and that the heap grows by at most 5 %. */
export const leavesNothing = Effect.fnUntraced(
  function* (calls: number) {
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const program = fileURLToPath(new URL("ManyCalls.ts", import.meta.url))
    // faster: no stack traces of errors, and few collections of the young generation
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
    // calls ended as intended
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

/** The active resources. A task that reads a file periodically is at any moment either a timer or a read. */
const resourcesOf = ({ resources: { FSReqCallback = 0, Timeout = 0, ...others } }: Report["before"]) => ({
  ...others,
  periodic: FSReqCallback + Timeout
})
