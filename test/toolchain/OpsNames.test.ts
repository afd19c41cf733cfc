/**
 * The parser that finds metric names in PromQL queries misses none, and the dashboard panels and log lines that the runbooks name exist.
 */
import { globSync } from "node:fs"
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"

import * as OpsNames from "../integration/OpsNames.ts"

const plain = (names: OpsNames.Names) => Object.fromEntries([...names].map(([name, labels]) => [name, [...labels]]))

describe("OpsNames.ofQuery", () => {
  it.each([
    { query: "up", names: { up: [] } },
    { query: "1 + vector(0) * time()", names: {} },
    { query: 'a_total{code="x", path!~"{b}[c]"}', names: { a_total: ["code", "path"] } },
    { query: 'a{x="1"} / a{y=~"\\"z\\"{"}', names: { a: ["x", "y"] } },
    { query: "sum by (code) (rate(a_total[5m]))", names: { a_total: [] } },
    { query: "sum(rate(a_total[$__rate_interval])) by (code)", names: { a_total: [] } },
    { query: "SUM WITHOUT (code) (a) and b unless c or d", names: { a: [], b: [], c: [], d: [] } },
    { query: "a * on (job, instance) group_left (version) b", names: { a: [], b: [] } },
    { query: "a / ignoring(code) group_right b > bool 0.5", names: { a: [], b: [] } },
    { query: "max_over_time(a:rate5m[1h:5m] offset 1d) > 14.4 * 1e-3", names: { "a:rate5m": [] } },
    { query: "a # and b\n+ c @ end()", names: { a: [], c: [] } },
    { query: 'absent(a{b="c"}) == Inf', names: { a: ["b"] } },
    { query: 'topk(3, histogram_quantile(0.99, sum by (le) (a_bucket{i=~"$i|$j"})))', names: { a_bucket: ["i"] } }
  ])("$query", ({ names, query }) => assert.deepStrictEqual(plain(OpsNames.ofQuery(query)), names))

  it("throws if a metric has no name or a bracket is not closed", () => {
    assert.throws(() => OpsNames.ofQuery('{__name__=~"a"}'), /without the name/)
    assert.throws(() => OpsNames.ofQuery('a{b="c"'), /not closed/)
  })
})

describe("OpsNames.ofServices", () => {
  const rules = `groups:
  - name: all
    rules:
      - record: a:rate5m
        expr: >-
          sum(
            rate(a_total{code="x"}[5m])
          )
      - alert: A
        expr: >-
          a:rate5m > 1 and up{job="a"} and on (job) b{job="a", kind="c"}
        for: 5m
`
  const dashboard = JSON.stringify({
    panels: [
      { type: "row", panels: [{ targets: [{ expr: 'd_seconds_bucket{instance=~"$x", le="1"} + a:rate5m' }] }] },
      { targets: [{ expr: 'b{role="e"}' }] }
    ],
    templating: {
      list: [
        { type: "datasource", query: "prometheus" },
        { type: "query", query: 'label_values(build_info{service="s"}, instance)' }
      ]
    }
  })

  it("returns the metrics of rules and panels, except recorded ones and those of Prometheus itself", () =>
    assert.deepStrictEqual(plain(OpsNames.ofServices(rules, dashboard)), {
      a_total: ["code"],
      b: ["kind", "role"],
      d_seconds_bucket: ["le"],
      build_info: ["service"]
    }))

  it("throws on a rule that it cannot parse", () =>
    assert.throws(() => OpsNames.rulesOf(`${rules}      - alert: B\n        expr: c > 1\n`), /2 of 3/))

  it.effect("finds the metrics in the files of ops/", () =>
    Effect.gen(function* () {
      const labels = yield* OpsNames.labelsOf
      assert.deepStrictEqual(new Set(labels.keys()), yield* OpsNames.metricNames)
      assert.includeMembers([...(labels.get("grpc_server_handled_total") ?? [])], ["grpc_service", "grpc_code"])
      assert.deepStrictEqual(
        [...labels.keys()].filter((name) => name.includes(":")),
        [],
        "recorded metrics without a rule"
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

describe("the runbooks", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url))
  const read = (file: string) => Effect.flatMap(FileSystem.FileSystem, (fs) => fs.readFileString(`${root}${file}`))
  const found = (text: string, pattern: RegExp) => [
    ...new Set(Array.from(text.matchAll(pattern), ([, part = ""]) => part))
  ]

  it.effect("name existing panels of the dashboard", () =>
    Effect.gen(function* () {
      const panels = found(yield* read("ops/README.md"), /(?<!\*)\*([A-Z][^*]+)\*(?!\*)/g)
      const titles = found(yield* read("ops/grafana/dashboard.json"), /"title": "([^"]+)"/g)
      assert.isAbove(panels.length, 20)
      assert.deepStrictEqual(
        panels.map((panel) => panel.replaceAll(/\s+/g, " ")).filter((panel) => !titles.includes(panel)),
        []
      )
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("quote existing log lines of the services", () =>
    Effect.gen(function* () {
      const files = yield* Effect.forEach(globSync("src/**/*.ts", { cwd: root }), read)
      const source = files.join("\n")
      // an ellipsis in a runbook stands for data in the source
      const lines = found(yield* read("ops/README.md"), /"([A-Z][^"|]+)"/g)
      assert.isAbove(lines.length, 8)
      const missing = lines.filter((line) =>
        line.split("…").some((part) => !source.includes(part.trim().replaceAll(/\s+/g, " ")))
      )
      assert.deepStrictEqual(missing, [])
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
