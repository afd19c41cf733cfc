/**
 * The settings of OTLP export, from OpenTelemetry's environment variables
 * (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
 */
import { Config, Duration, Option, Redacted } from "effect"

import * as Setting from "../config/Setting.ts"
import * as Sampling from "./Sampling.ts"

/** The collector, the exported data and its sampling. */
export interface OtlpSettings {
  /** The base URL of the collector, which receives OTLP/HTTP in JSON at `v1/traces` and `v1/metrics`. None: nothing is exported. */
  readonly endpoint: Option.Option<string>
  readonly headers: Redacted.Redacted<Readonly<Record<string, string>>>
  /** The timeout of each request. */
  readonly timeout: Duration.Duration
  /** The time between two exports of spans. */
  readonly tracesInterval: Duration.Duration
  /** The time between two exports of metrics. */
  readonly metricsInterval: Duration.Duration
  readonly sampler: Sampling.Sampler
  readonly serviceName: Option.Option<string>
  readonly resourceAttributes: Readonly<Record<string, string>>
}

/** Rejects URLs with credentials, which belong in the headers: the URL appears in the log. */
const isUrl = (text: string): boolean => {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return false
  const { password, username } = new URL(text)
  return username === "" && password === ""
}

/** Parses OpenTelemetry's lists: "key=value,key=value", percent-encoded (W3C Baggage). */
const parseList = (text: string): Option.Option<Readonly<Record<string, string>>> => {
  try {
    const entries = text
      .split(",")
      .filter((entry) => entry.trim() !== "")
      .map((entry) => {
        const [, key, value] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(entry) ?? []
        return key === undefined || value === undefined
          ? undefined
          : ([decodeURIComponent(key), decodeURIComponent(value)] as const)
      })
    return entries.includes(undefined)
      ? Option.none()
      : Option.some(Object.fromEntries(entries.filter((entry) => entry !== undefined)))
  } catch {
    return Option.none()
  }
}

const list = (variable: string, description: string, isSecret = false) =>
  Setting.optional(variable, {
    description,
    unset: "none",
    expected: "comma-separated key=value pairs",
    parse: parseList,
    isSecret: () => isSecret
  }).pipe(Config.map(Option.getOrElse((): Readonly<Record<string, string>> => ({}))))

/** OpenTelemetry's durations: a number of milliseconds. */
const millis = (variable: string, options: { readonly description: string; readonly default: number }) =>
  Config.map(Setting.count(variable, { ...options, unit: "milliseconds", minimum: 1 }), (count) =>
    Duration.millis(count)
  )

/** OpenTelemetry's variables, named OTEL_. */
export const settings: Config.Config<OtlpSettings> = Config.all({
  endpoint: Setting.optional("OTEL_EXPORTER_OTLP_ENDPOINT", {
    description: "The collector that traces and metrics are sent to.",
    unset: "nothing is exported",
    expected: "the URL of a collector, without a password, such as http://localhost:4318",
    parse: Option.liftPredicate(isUrl),
    isSecret: (value) => value.includes("@")
  }),
  headers: Config.map(
    list("OTEL_EXPORTER_OTLP_HEADERS", "Headers of each request to the collector.", true),
    (headers) => Redacted.make(headers)
  ),
  timeout: millis("OTEL_EXPORTER_OTLP_TIMEOUT", {
    description: "How long the collector may take to answer a request.",
    default: 10_000
  }),
  tracesInterval: millis("OTEL_BSP_SCHEDULE_DELAY", {
    description: "The time between two exports of spans.",
    default: 5_000
  }),
  metricsInterval: millis("OTEL_METRIC_EXPORT_INTERVAL", {
    description: "The time between two exports of metrics.",
    default: 60_000
  }),
  sampler: Config.all({
    name: Setting.oneOf("OTEL_TRACES_SAMPLER", {
      description: "Which traces are recorded.",
      words: Sampling.names,
      unset: "`parentbased_traceidratio`"
    }).pipe(Config.map(Option.getOrElse(() => "parentbased_traceidratio" as const))),
    ratio: Setting.ratio("OTEL_TRACES_SAMPLER_ARG", {
      description: "The share of traces that the ratio samplers record.",
      default: 0.01
    })
  }),
  serviceName: Setting.optional("OTEL_SERVICE_NAME", {
    description:
      "The name of the service in telemetry and in the log. Ignored by `npm start`, whose services keep their names.",
    unset: "the service's own name",
    expected: "the name of a service",
    parse: Option.some
  }),
  resourceAttributes: list("OTEL_RESOURCE_ATTRIBUTES", "Further attributes of the service, in telemetry.")
})
