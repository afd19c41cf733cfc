/**
 * The alert rules of ops/ are what Prometheus takes, raise alerts when they should, and are explained. promtool is of Debian's
 * package prometheus; where it is missing the tests fail, since one that was skipped would pass for one that had been run.
 */
import { fileURLToPath } from "node:url"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import { emitted } from "../integration/Emitted.ts"
import { Installation } from "../integration/Installation.ts"
import * as OpsNames from "../integration/OpsNames.ts"
import { MissingTool } from "./ForeignTools.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Runs promtool in the folder of the rules. */
const promtool = Effect.fnUntraced(function* (args: ReadonlyArray<string>, input = "") {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner
    .spawn(
      ChildProcess.make("promtool", args, {
        cwd: `${root}ops/prometheus`,
        extendEnv: true,
        stdin: Stream.encodeText(Stream.succeed(input))
      })
    )
    .pipe(
      Effect.mapError(
        (error) => new MissingTool({ tool: "promtool", install: "apt-get install prometheus", output: String(error) })
      )
    )
  const [output, exitCode] = yield* Effect.all([Stream.mkString(Stream.decodeText(handle.all)), handle.exitCode], {
    concurrency: "unbounded"
  })
  return { output, exitCode: Number(exitCode) }
}, Effect.scoped)

const read = (file: string) => Effect.flatMap(FileSystem.FileSystem, (fs) => fs.readFileString(`${root}ops/${file}`))

/** The alerts that the rules raise, in order. */
const alerts = Effect.map(read("prometheus/rules.yaml"), (rules) =>
  OpsNames.rulesOf(rules)
    .filter(({ kind }) => kind === "alert")
    .map(({ name }) => name)
)

const sorted = (names: Iterable<string>) => [...new Set(names)].toSorted()

layer(NodeServices.layer, { excludeTestServices: true })("the alerts", (it) => {
  it.effect("are rules that Prometheus takes", () =>
    Effect.gen(function* () {
      const { exitCode, output } = yield* promtool(["check", "rules", "rules.yaml"])
      assert.strictEqual(exitCode, 0, output)
    })
  )

  it.effect(
    "are raised when they should be, and not when they should not",
    () =>
      Effect.gen(function* () {
        const { exitCode, output } = yield* promtool(["test", "rules", "rules.test.yaml"])
        assert.strictEqual(exitCode, 0, output)
      }),
    // it computes hours of every rule for every case
    180_000
  )

  it.effect("each have a case in which they are raised, and one in which they are not", () =>
    Effect.gen(function* () {
      const cases = [
        ...(yield* read("prometheus/rules.test.yaml")).matchAll(/alertname: (\w+)\n +exp_alerts:( \[\])?$/gm)
      ]
      const namesOf = (isRaised: boolean) =>
        sorted(cases.flatMap(([, name = "", none]) => ((none === undefined) === isRaised ? [name] : [])))
      assert.deepStrictEqual(namesOf(true), sorted(yield* alerts))
      assert.deepStrictEqual(namesOf(false), sorted(yield* alerts))
    })
  )

  it.effect("are each explained under their name, which is where they point to", () =>
    Effect.gen(function* () {
      const [, explained = ""] = (yield* read("README.md")).split("\n## Alerts\n")
      const headings = [...explained.matchAll(/^### (\w+)$/gm)].map(([, name = ""]) => name)
      assert.deepStrictEqual(headings, yield* alerts)

      const anchors = [...(yield* read("prometheus/rules.yaml")).matchAll(/runbook_url: (\S+)$/gm)].map(
        ([, url]) => url
      )
      assert.deepStrictEqual(
        anchors,
        (yield* alerts).map((name) => `ops/README.md#${name.toLowerCase()}`)
      )
    })
  )

  it.effect("each say how urgent they are, and what is the matter", () =>
    Effect.gen(function* () {
      const rules = yield* read("prometheus/rules.yaml")
      for (const part of rules.split("- alert: ").slice(1)) {
        for (const field of [/ severity: (page|ticket)$/m, / summary: \S/, / description: >-\n +\S/]) {
          assert.match(part, field)
        }
      }
    })
  )
})

layer(Layer.mergeAll(Installation.layer, NodeHttpClient.layerUndici, NodeServices.layer), {
  excludeTestServices: true
})("the metrics of both services", (it) => {
  it.effect("are what Prometheus reads, named as it advises", () =>
    Effect.gen(function* () {
      for (const [service, { text }] of Object.entries(yield* emitted)) {
        const { exitCode, output } = yield* promtool(["check", "metrics"], text)
        assert.strictEqual(output, "", service)
        assert.strictEqual(exitCode, 0, service)
      }
    })
  )
})
