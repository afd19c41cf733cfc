/**
 * Extracts the names of metrics and labels from the queries of the alert rules and the dashboard of ops/, so that tests can compare
 * them with the metrics of the services.
 */
import { fileURLToPath } from "node:url"

import { Effect, FileSystem, Schema } from "effect"

/** The labels that queries use, by metric. */
export type Names = ReadonlyMap<string, ReadonlySet<string>>

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Keywords of PromQL. */
const keywords: ReadonlySet<string> = new Set(["and", "or", "unless", "bool", "offset", "inf", "nan"])

/** Keywords before a list of labels. */
const groupings: ReadonlySet<string> = new Set(["by", "without", "on", "ignoring", "group_left", "group_right"])

/** Metrics and labels that Prometheus adds itself. */
const metricsOfPrometheus: ReadonlySet<string> = new Set(["up"])
const labelsOfPrometheus: ReadonlySet<string> = new Set(["job", "instance"])

/** Tokens: names, strings, numbers with units, and punctuation, with white space and comments between them. */
const token =
  /#[^\n]*|\s+|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|\$?[a-zA-Z_:][\w:]*|\$\{[^}]*\}|\d[\w.]*(?:(?<=[eE])[+-]\d+)?|[^\s])/g

/** A name before one of these is an aggregation and not a metric: `sum by (code) (...)`. */
const beginsLabels = (text: string) => /^(by|without)$/i.test(text)

const isName = (text: string | undefined): text is string => text !== undefined && /^[a-zA-Z_:]/.test(text)

/**
 * The metrics of a PromQL query with the labels in their matchers. Labels of `by`, `on` and the like are left out, since they may belong
 * to any metric of the query.
 */
export const ofQuery = (query: string): Names => {
  const tokens = [...query.matchAll(token)].flatMap(([, text]) => (text === undefined ? [] : [text]))
  const names = new Map<string, Set<string>>()
  let at = 0

  /** Returns the index after the bracket that closes the one at an index. Nested brackets are of the same kind. */
  const inside = (open: string, close: string): ReadonlyArray<string> => {
    const start = ++at
    for (let depth = 1; at < tokens.length; at++) {
      if (tokens[at] === open) depth++
      if (tokens[at] === close && --depth === 0) break
    }
    if (tokens[at] !== close) throw new Error(`${open} is not closed in ${query}`)
    return tokens.slice(start, at++)
  }

  while (at < tokens.length) {
    const text = tokens[at]
    if (text === "[") inside("[", "]")
    else if (text === "{") throw new Error(`A selector without the name of a metric: ${query}`)
    else if (!isName(text)) at++
    else {
      const next = tokens[++at] ?? ""
      if (groupings.has(text.toLowerCase())) {
        // the list of labels of group_left is optional
        if (next === "(") inside("(", ")")
      } else if (!keywords.has(text.toLowerCase()) && next !== "(" && !beginsLabels(next)) {
        const labels = names.get(text) ?? new Set()
        names.set(text, labels)
        if (next === "{") {
          const matchers = inside("{", "}")
          matchers.forEach((label, index) => {
            if (isName(label) && /^[=!]$/.test(matchers[index + 1] ?? "")) labels.add(label)
          })
        }
      }
    }
  }
  return names
}

/** The metrics of several queries. */
export const ofQueries = (queries: Iterable<string>): Names => {
  const names = new Map<string, Set<string>>()
  for (const query of queries) {
    for (const [metric, labels] of ofQuery(query)) {
      names.set(metric, new Set([...(names.get(metric) ?? []), ...labels]))
    }
  }
  return names
}

/** A rule of Prometheus. */
export interface Rule {
  readonly kind: "record" | "alert"
  readonly name: string
  readonly query: string
}

/** The rules of a file, in which each query is a block after `expr: >-` below the name. */
export const rulesOf = (yaml: string): ReadonlyArray<Rule> => {
  const rules = [...yaml.matchAll(/^( *)- (record|alert): (\S+)\n\1 {2}expr: >-\n((?:\1 {4}.*\n)+)/gm)].map(
    ([, , kind, name = "", query = ""]): Rule => ({ kind: kind === "record" ? "record" : "alert", name, query })
  )
  const expected = yaml.match(/^ *(- )?expr:/gm)?.length ?? 0
  if (rules.length !== expected) throw new Error(`${rules.length} of ${expected} rules are written as expected`)
  return rules
}

/** The parts of a dashboard that contain queries. */
interface Panel {
  readonly panels?: ReadonlyArray<Panel> | undefined
  readonly targets?: ReadonlyArray<{ readonly expr: string }> | undefined
}

const Panel: Schema.Codec<Panel> = Schema.Struct({
  panels: Schema.optional(Schema.Array(Schema.suspend((): Schema.Codec<Panel> => Panel))),
  targets: Schema.optional(Schema.Array(Schema.Struct({ expr: Schema.String })))
})

const decodeDashboard = Schema.decodeUnknownSync(
  Schema.fromJsonString(
    Schema.Struct({
      panels: Schema.Array(Panel),
      templating: Schema.Struct({
        list: Schema.Array(Schema.Struct({ type: Schema.String, query: Schema.String }))
      })
    })
  )
)

/** The queries of a Grafana dashboard: of its panels and of its variables. */
export const queriesOf = (json: string): ReadonlyArray<string> => {
  const dashboard = decodeDashboard(json)
  const ofPanel = ({ panels = [], targets = [] }: Panel): ReadonlyArray<string> => [
    ...targets.map(({ expr }) => expr),
    ...panels.flatMap(ofPanel)
  ]
  const ofVariables = dashboard.templating.list.flatMap(({ query, type }) => {
    if (type !== "query") return []
    const [, selector] = /^label_values\((.+), *\w+\)$/.exec(query) ?? []
    if (selector === undefined) throw new Error(`A variable that is not understood: ${query}`)
    return [selector]
  })
  return [...dashboard.panels.flatMap(ofPanel), ...ofVariables]
}

/** The metrics that services have to emit: without those of Prometheus and of recording rules. */
export const ofServices = (rules: string, dashboard: string): Names => {
  const known = rulesOf(rules)
  const recorded = new Set(known.filter(({ kind }) => kind === "record").map(({ name }) => name))
  const names = ofQueries([...known.map(({ query }) => query), ...queriesOf(dashboard)])
  return new Map(
    [...names]
      .filter(([metric]) => !recorded.has(metric) && !metricsOfPrometheus.has(metric))
      .map(([metric, labels]) => [metric, new Set([...labels].filter((label) => !labelsOfPrometheus.has(label)))])
  )
}

/** The metrics in the files of ops/ that services have to emit, with the queried labels. */
export const labelsOf = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const rules = yield* fs.readFileString(`${root}ops/prometheus/rules.yaml`)
  return ofServices(rules, yield* fs.readFileString(`${root}ops/grafana/dashboard.json`))
})

/** The names of these metrics. Histograms have the suffixes `_bucket`, `_sum` and `_count`. */
export const metricNames = Effect.map(labelsOf, (labels): ReadonlySet<string> => new Set(labels.keys()))
