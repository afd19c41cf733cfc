/**
 * The manifests, run as local processes under load by `npm run cluster`: no request fails.
 */
import { writeSync } from "node:fs"
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, FileSystem, Path, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Runs `npm run cluster` and returns its output and exit code. `show` receives the output as it is written. */
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

/** Writes to the terminal directly: vitest shows the output of failed tests only. */
const print = (text: string) => void writeSync(1, text)

it.live(
  "no page and no call fails during a rollout, a change of replicas and a kill",
  () =>
    Effect.gen(function* () {
      const { exitCode, output } = yield* cluster([], print)
      assert.strictEqual(exitCode, 0, output)
      assert.match(output, /\n0 failed\n/)

      /** The part of the output about one rehearsal. */
      const section = (name: string) => new RegExp(`\n${name}: [^]*?\n  in `).exec(output)?.[0] ?? ""
      const numbers = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, number]) => Number(number))
      for (const name of ["rollout", "scale", "kill"]) {
        const [pages = 0] = numbers(section(name), /pages: (\d+), 0 failed/g)
        const calls = numbers(section(name), /calls, \S+ API: (\d+), 0 failed/g)
        // 100 pages and 20 calls of each API per second, for longer than minReadySeconds
        assert.isAbove(pages, 2_000, name)
        assert.lengthOf(calls, 2, name)
        for (const count of calls) assert.isAbove(count, 400, name)
      }
      // three replaced replicas of each service, and two surplus ones, exited with 0
      assert.deepStrictEqual(numbers(section("rollout"), /(\d+) left with exit code 0/g), [3, 3])
      assert.deepStrictEqual(numbers(section("scale"), /(\d+) left with exit code 0/g), [2, 2])
    }).pipe(Effect.provide(NodeServices.layer)),
  900_000
)

/** Copies the manifests and changes minReadySeconds. */
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
  "calls fail during a rollout that is faster than DNS caches expire",
  () =>
    Effect.gen(function* () {
      const { exitCode, output } = yield* cluster(["rollout", "--manifests", `${yield* copied(1)}/base`])
      const [, seconds] = /\n {2}in ([\d.]+) s\n/.exec(output) ?? []
      assert.isBelow(Number(seconds), 30, "the rollout took longer than the name server caches answers")
      assert.strictEqual(exitCode, 1)
      assert.match(output, /\n[1-9]\d* failed\n/)
      assert.match(output, /No connection established|Circuit breaker is open/)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
  300_000
)

it.live(
  "no page and no call fails when pods are killed, with mutual TLS and a catalogue from a ConfigMap",
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
