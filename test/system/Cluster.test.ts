/**
 * The manifests, performed as processes under load, as `npm run cluster` does it: nothing is lost.
 */
import { writeSync } from "node:fs"
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, FileSystem, Path, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Performs manifests, and gives what was printed with the exit code; `show` gets it as it comes. */
const cluster = Effect.fnUntraced(function* (args: ReadonlyArray<string>, show: (text: string) => void = () => {}) {
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
    Stream.tap((text) => Effect.sync(() => show(text))),
    Stream.mkString
  )
  return { output, exitCode: yield* handle.exitCode }
}, Effect.scoped)

/** Past vitest, which shows what failed tests print. */
const print = (text: string) => void writeSync(1, text)

it.live(
  "a rollout, a scaling and a kill lose no page and no call",
  () =>
    Effect.gen(function* () {
      const { exitCode, output } = yield* cluster([], print)
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

/** The manifests in a folder of their own, with so many minReadySeconds. */
const copied = Effect.fnUntraced(function* (minReadySeconds: number) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = path.join(yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-k8s-" }), "k8s")
  yield* fs.copy(path.join(root, "k8s"), folder)
  for (const service of ["recommendations", "marketplace"]) {
    const file = path.join(folder, "base", service, "deployment.yaml")
    const manifest = yield* fs.readFileString(file)
    yield* fs.writeFileString(file, manifest.replace(/minReadySeconds: \d+/, `minReadySeconds: ${minReadySeconds}`))
  }
  return folder
})

it.live(
  "a rollout that does not wait for name servers is found out",
  () =>
    Effect.gen(function* () {
      const { exitCode, output } = yield* cluster(["rollout", "--manifests", `${yield* copied(1)}/base`])
      const [, seconds] = /\n {2}in ([\d.]+) s\n/.exec(output) ?? []
      assert.isBelow(Number(seconds), 30, "the name server has forgotten the old replicas before the last of them left")
      assert.strictEqual(exitCode, 1)
      assert.match(output, /\n[1-9]\d* failed\n/)
      assert.match(output, /No connection established|Circuit breaker is open/)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
  300_000
)

it.live(
  "pods that are killed lose nothing over mutual TLS and with books from a ConfigMap either",
  () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* copied(5)
      yield* fs.makeDirectory(`${folder}/mine`)
      yield* fs.writeFileString(
        `${folder}/mine/kustomization.yaml`,
        "resources: [../examples/own-catalogue]\ncomponents: [../components/tls]\n"
      )
      const { exitCode, output } = yield* cluster(["kill", "--manifests", `${folder}/mine`], print)
      assert.strictEqual(exitCode, 0, output)
      assert.match(output, /\n0 failed\n/)
      assert.match(output, /calls, today's API: [1-9]\d\d+, 0 failed/)
      assert.match(output, /recommendations-\S+ is started again: it was killed/)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
  300_000
)
