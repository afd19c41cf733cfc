/**
 * What Prometheus reads of a process, by a parser of its format.
 */
import { Effect } from "effect"
import { HttpClient } from "effect/http"
import parsePrometheus from "parse-prometheus-text-format"

/** A sample, as Prometheus stores it: a histogram is many. */
interface Sample {
  readonly name: string
  readonly labels: { readonly [label: string]: string }
  readonly value: number
}

type Labels = { readonly [label: string]: string }

export interface Scrape {
  /** As it came. */
  readonly text: string
  readonly samples: ReadonlyArray<Sample>
  /** The names of the metrics, of a histogram without those of its parts. */
  readonly names: ReadonlySet<string>
  /** The sample with exactly those labels; 0 if there is none. */
  readonly value: (name: string, labels?: Labels) => number
  /** All samples together that have those labels, and may have others. */
  readonly total: (name: string, labels?: Labels) => number
  /** The labels that any sample of that name has. */
  readonly labels: (name: string) => ReadonlySet<string>
}

const matches = (sample: Labels, wanted: Labels) =>
  Object.entries(wanted).every(([label, value]) => sample[label] === value)

/** Reads what a process has written, which has to be as the format has it. */
export const parse = (text: string): Scrape => {
  // of a histogram it makes one series whatever its labels say, so that it had better not know
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

/** Scrapes the process that has its admin port there. */
export const scrape = Effect.fnUntraced(function* (adminPort: number) {
  const response = yield* HttpClient.get(`http://127.0.0.1:${adminPort}/metrics`)
  if (response.status !== 200) return yield* Effect.die(new Error(`/metrics: status ${response.status}`))
  return parse(yield* response.text)
}, Effect.orDie)
