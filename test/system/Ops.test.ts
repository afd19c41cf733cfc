/**
 * The alert rules of ops/ are valid, fire when they should, and are documented. The tests need promtool (Debian's package
 * prometheus) and fail without it: a skipped test would look like one that passed.
 */
import { fileURLToPath } from "node:url"

import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer, Stream } from "effect"
import { ChildProcess } from "effect/process"

import { emitted } from "../integration/Emitted.ts"
import { Installation } from "../integration/Installation.ts"
import * as OpsNames from "../integration/OpsNames.ts"
import * as Output from "../integration/Output.ts"
import { MissingTool } from "./ForeignTools.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Runs promtool in the folder of the rules. */
const promtool = (args: ReadonlyArray<string>, input = "") =>
  Output.run(
    ChildProcess.make("promtool", args, {
      cwd: `${root}ops/prometheus`,
      extendEnv: true,
      stdin: Stream.encodeText(Stream.succeed(input))
    })
  ).pipe(
    Effect.mapError(
      (error) => new MissingTool({ tool: "promtool", install: "apt-get install prometheus", output: String(error) })
    )
  )

const read = (file: string) => Effect.flatMap(FileSystem.FileSystem, (fs) => fs.readFileString(`${root}ops/${file}`))

/** The names of the alerts, in the order of the rules. */
const alerts = Effect.map(read("prometheus/rules.yaml"), (rules) =>
  OpsNames.rulesOf(rules)
    .filter(({ kind }) => kind === "alert")
    .map(({ name }) => name)
)

const sorted = (names: Iterable<string>) => [...new Set(names)].toSorted()

layer(NodeServices.layer, { excludeTestServices: true })("alerts", (it) => {
  it.effect("are valid rules of Prometheus", () =>
    Effect.gen(function* () {
      const { exitCode, output } = yield* promtool(["check", "rules", "rules.yaml"])
      assert.strictEqual(exitCode, 0, output)
    })
  )

  it.effect(
    "fire in the cases of rules.test.yaml that expect them, and in no others",
    () =>
      Effect.gen(function* () {
        const { exitCode, output } = yield* promtool(["test", "rules", "rules.test.yaml"])
        assert.strictEqual(exitCode, 0, output)
      }),
    // promtool evaluates every rule over hours for each case
    180_000
  )

  it.effect("each have a test case in which they fire and one in which they do not", () =>
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

  it.effect("each have a section in ops/README.md, to which runbook_url points", () =>
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

  it.effect("each have a severity, a summary and a description", () =>
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
  it.effect("are readable by Prometheus and follow its naming conventions", () =>
    Effect.gen(function* () {
      for (const [service, { text }] of Object.entries(yield* emitted)) {
        // a gauge whose name is OpenTelemetry's
        const checked = text.replaceAll("db_client_connection_count", "db_client_connections")
        const { exitCode, output } = yield* promtool(["check", "metrics"], checked)
        assert.strictEqual(output, "", service)
        assert.strictEqual(exitCode, 0, service)
      }
    })
  )
})
