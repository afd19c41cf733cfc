/**
 * The manifests, performed as processes under load, as `npm run cluster` does it: nothing is lost.
 */
import { writeSync } from "node:fs"
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Performs `k8s/base`, prints what it prints, and gives it with its exit code. */
const cluster = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(
    ChildProcess.make(process.execPath, ["k8s/cluster/main.ts", ...args], {
      cwd: root,
      extendEnv: true,
      stdin: "ignore",
      forceKillAfter: "10 seconds"
    })
  )
  const output = yield* handle.all.pipe(
    Stream.decodeText(),
    Stream.tap((text) => Effect.sync(() => writeSync(1, text))),
    Stream.mkString
  )
  return { output, exitCode: yield* handle.exitCode }
}, Effect.scoped)

it.live(
  "a rollout, a scaling and a kill lose no page and no call",
  () =>
    Effect.gen(function* () {
      const { exitCode, output } = yield* cluster()
      assert.strictEqual(exitCode, 0, output)
      assert.match(output, /\n0 failed\n/)

      /** What was printed of a rehearsal. */
      const section = (name: string) => new RegExp(`\n${name}: [^]*?\n  in `).exec(output)?.[0] ?? ""
      const numbers = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, number]) => Number(number))
      for (const name of ["rollout", "scale", "kill"]) {
        const [pages = 0] = numbers(section(name), /pages: (\d+), 0 failed/g)
        const calls = numbers(section(name), /calls, \S+ API: (\d+), 0 failed/g)
        // at 100 pages and 20 calls of each API a second, for longer than minReadySeconds
        assert.isAbove(pages, 2_000, name)
        assert.lengthOf(calls, 2, name)
        for (const count of calls) assert.isAbove(count, 400, name)
      }
      // each replica of both, and the two that were too many of both, left in order
      assert.deepStrictEqual(numbers(section("rollout"), /(\d+) left with exit code 0/g), [3, 3])
      assert.deepStrictEqual(numbers(section("scale"), /(\d+) left with exit code 0/g), [2, 2])
    }).pipe(Effect.provide(NodeServices.layer)),
  900_000
)
