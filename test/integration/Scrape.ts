/**
 * Scrapes and parses metrics in Prometheus' text format.
 */
import { Effect } from "effect"
import { HttpClient } from "effect/http"
import parsePrometheus from "parse-prometheus-text-format"

/** A sample. A histogram consists of several. */
interface Sample {
  readonly name: string
  readonly labels: { readonly [label: string]: string }
  readonly value: number
}

type Labels = { readonly [label: string]: string }

/** The metrics of one scrape. */
export interface Scrape {
  /** The unparsed text. */
  readonly text: string
  readonly samples: ReadonlyArray<Sample>
  /** The names of the metrics, without the suffixes of histogram samples. */
  readonly names: ReadonlySet<string>
  /** The value of the sample with exactly these labels; 0 without one. */
  readonly value: (name: string, labels?: Labels) => number
  /** The sum of all samples that have these labels and maybe others. */
  readonly total: (name: string, labels?: Labels) => number
  /** The labels of all samples of a name. */
  readonly labels: (name: string) => ReadonlySet<string>
}

const matches = (sample: Labels, wanted: Labels) =>
  Object.entries(wanted).every(([label, value]) => sample[label] === value)

/** Parses the text format. Throws if it is malformed. */
export const parse = (text: string): Scrape => {
  // the parser merges histograms that differ in labels, so their type is removed
  const samples = parsePrometheus(text.replaceAll(/^# TYPE \S+ histogram$/gm, "")).flatMap(({ metrics, name }) =>
    metrics.map(({ labels = {}, value }): Sample => ({ name, labels, value: Number(value) }))
  )
  const named = (name: string) => samples.filter((sample) => sample.name === name)
  return {
    text,
    samples,
    names: new Set(Array.from(text.matchAll(/^# TYPE (\S+) /gm), ([, name]) => name!)),
    value: (name, labels = {}) =>
      named(name).find(
        (sample) => matches(sample.labels, labels) && Object.keys(sample.labels).length === Object.keys(labels).length
      )?.value ?? 0,
    total: (name, labels = {}) =>
      named(name)
        .filter((sample) => matches(sample.labels, labels))
        .reduce((sum, { value }) => sum + value, 0),
    labels: (name) => new Set(named(name).flatMap(({ labels }) => Object.keys(labels)))
  }
}

/** Scrapes /metrics of an admin port. */
export const scrape = Effect.fnUntraced(function* (adminPort: number) {
  const response = yield* HttpClient.get(`http://127.0.0.1:${adminPort}/metrics`)
  if (response.status !== 200) return yield* Effect.die(new Error(`/metrics: status ${response.status}`))
  return parse(yield* response.text)
}, Effect.orDie)
