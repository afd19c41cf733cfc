/**
 * What a service says of itself: its name and version on each line of the log, metrics of its own, and, where there is a collector,
 * traces and metrics over OTLP.
 *
 * {@link layer} is outermost, since whatever a service does is observed, and {@link exported} below what serves the metrics, so that
 * the last spans are sent before that goes:
 *
 * ```ts
 * Api.layer.pipe(
 *   NodeGrpcServer.listenConfig("API"),
 *   Layer.provide(Telemetry.exported),
 *   Layer.provide(Admin.layerConfig("API", 9101)),
 *   Telemetry.provide({ name: "api", version: "1.0.0" })
 * )
 * ```
 *
 * The settings are those of https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
 */
import { randomUUID } from "node:crypto"

import {
  Config,
  ConfigProvider,
  Context,
  Duration,
  Effect,
  Layer,
  Metric,
  Option,
  Redacted,
  References,
  Tracer
} from "effect"
import { OtlpExporter, OtlpMetrics, OtlpSerialization, OtlpTracer } from "effect/observability"

import * as Setting from "../config/Setting.ts"
import * as ObservableMetric from "./ObservableMetric.ts"
import * as OtlpExportQueue from "./OtlpExportQueue.ts"
import * as ProcessMetrics from "./ProcessMetrics.ts"
import * as Sampling from "./Sampling.ts"

/** Which service it is. */
export interface Service {
  readonly name: string
  readonly version: string
}

/** Where telemetry goes, and how much of it. */
export interface Settings {
  /** The collector: OTLP over HTTP as JSON is sent to `v1/traces` and `v1/metrics` below it. None: nothing is exported. */
  readonly endpoint: Option.Option<string>
  readonly headers: Redacted.Redacted<Readonly<Record<string, string>>>
  /** How long one request may take. */
  readonly timeout: Duration.Duration
  /** How often spans are sent, and how often metrics. */
  readonly tracesInterval: Duration.Duration
  readonly metricsInterval: Duration.Duration
  readonly sampler: Sampling.Sampler
  readonly serviceName: Option.Option<string>
  readonly resourceAttributes: Readonly<Record<string, string>>
}

/** What is secret goes into the headers. */
const isUrl = (text: string): boolean => {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return false
  const { password, username } = new URL(text)
  return username === "" && password === ""
}

/** "key=value,key=value", percent-encoded, as OpenTelemetry has its lists. */
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
    expected: "key=value pairs with commas between them",
    parse: parseList,
    isSecret: () => isSecret
  }).pipe(Config.map(Option.getOrElse((): Readonly<Record<string, string>> => ({}))))

/** A span of time as OpenTelemetry has them: a number of milliseconds. */
const millis = (variable: string, options: { readonly description: string; readonly default: number }) =>
  Config.map(Setting.count(variable, { ...options, unit: "milliseconds", minimum: 1 }), (count) =>
    Duration.millis(count)
  )

/** OpenTelemetry's variables, named OTEL_. */
export const settings: Config.Config<Settings> = Config.all({
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
      description: "The share of traces that the samplers by ratio record.",
      default: 0.01
    })
  }),
  serviceName: Setting.optional("OTEL_SERVICE_NAME", {
    description:
      "The name of the service in telemetry and in the log. Not read by `npm start`, whose services keep their names.",
    unset: "the service's own name",
    expected: "the name of a service",
    parse: Option.some
  }),
  resourceAttributes: list("OTEL_RESOURCE_ATTRIBUTES", "Further attributes of the service, in telemetry.")
})

/** The service that an effect belongs to. */
const CurrentService = Context.Reference<Service>("layers/telemetry/Telemetry/CurrentService", {
  defaultValue: () => ({ name: "unknown_service:node", version: "0.0.0" })
})

/** Whether there are other services in the process, each of which keeps its own name then. */
const IsShared = Context.Reference<boolean>("layers/telemetry/Telemetry/IsShared", { defaultValue: () => false })

/** For a process with several services: OTEL_SERVICE_NAME is not read. */
export const layerShared: Layer.Layer<never> = Layer.succeed(IsShared, true)

/** Lets all that a layer does be of a service: its lines say so, and its metrics are its own. */
export const layer = (service: Service): Layer.Layer<never, Config.ConfigError> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const { resourceAttributes, serviceName } = yield* settings
      const given = Option.getOrElse(serviceName, () => resourceAttributes["service.name"] ?? service.name)
      const name = (yield* IsShared) ? service.name : given
      const known = { ...service, name }
      return Layer.effectDiscard(
        Effect.andThen(
          ProcessMetrics.observe,
          // by its own name, which alerts go by, whatever else it is called
          ObservableMetric.gauge("build_info", "Which service it is, and which version", () => 1, {
            service: service.name,
            version: service.version,
            node_version: process.version
          })
        )
      ).pipe(
        Layer.provideMerge(
          Layer.mergeAll(
            Layer.succeed(CurrentService, known),
            Layer.succeed(Metric.MetricRegistry, new Map()),
            Layer.succeed(References.CurrentLogAnnotations, { service: name, version: service.version })
          )
        )
      )
    })
  )

/** Provides a layer with {@link layer}. */
export const provide =
  (service: Service) =>
  <A, E, R>(self: Layer.Layer<A, E, R>): Layer.Layer<A, E | Config.ConfigError, R> =>
    Layer.provide(self, layer(service))

/**
 * Exports by the {@link settings}, until it closes, which sends what is left; nothing without a collector. Each service of a process
 * has its own.
 */
export const exported: Layer.Layer<never, Config.ConfigError> = Layer.unwrap(
  Effect.gen(function* () {
    const { endpoint, headers, metricsInterval, resourceAttributes, sampler, timeout, tracesInterval } = yield* settings
    if (Option.isNone(endpoint)) return Layer.empty
    const service = yield* CurrentService
    // Node notes each request of its fetch, two hundred and fifty of them, for whoever asks how long they took
    performance.setResourceTimingBufferSize(0)
    const url = endpoint.value.replace(/\/+$/, "")
    const outage = OtlpExportQueue.makeOutage(new URL(url).origin)
    const options = {
      headers: Redacted.value(headers),
      resource: {
        serviceName: service.name,
        serviceVersion: service.version,
        attributes: { "service.instance.id": randomUUID(), ...resourceAttributes }
      }
    }
    const traces = Layer.effect(
      Tracer.Tracer,
      Effect.map(
        OtlpTracer.make({ ...options, url: `${url}/v1/traces`, exportInterval: tracesInterval, maxBatchSize: 200 }),
        (recorder) => Sampling.tracer(recorder, sampler)
      )
    ).pipe(Layer.provide(OtlpExportQueue.layer({ signal: "traces", timeout, outage })))
    const metrics = Layer.effectDiscard(
      OtlpMetrics.make({ ...options, url: `${url}/v1/metrics`, exportInterval: metricsInterval })
    ).pipe(Layer.provide(OtlpExportQueue.layer({ signal: "metrics", timeout, outage })))
    yield* Effect.logInfo(`Telemetry is sent to ${new URL(url).origin}`)
    return Layer.merge(traces, metrics).pipe(
      Layer.provide(OtlpExporter.layerFlusher),
      Layer.provide(serialization),
      // all that there is to know has been read above, where what is wrong is told of
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({})))
    )
  })
).pipe(Layer.fresh)

/** OTLP as JSON. */
const serialization = Layer.effect(
  OtlpSerialization.OtlpSerialization,
  Effect.map(OtlpSerialization.OtlpSerialization, (json) => ({
    ...json,
    traces: (data) => {
      for (const span of data.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans).flatMap(({ spans }) => spans)) {
        // that all went well is for people to say, not for programs: what has no error is unset
        if (span.status.code === statusOk) (span.status as { code: number }).code = statusUnset
        // a status says all there is, where nothing was thrown
        const thrown = span.events.filter(({ attributes, name }) => name !== "exception" || hasStack(attributes))
        span.events.splice(0, span.events.length, ...thrown)
      }
      return json.traces(data)
    },
    metrics: (data) => {
      const all = data.resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics).flatMap(({ metrics }) => metrics)
      for (const metric of all) {
        // the unit is no attribute, and where there is none it is not 1
        let unit = ""
        for (const data of [metric.sum, metric.gauge, metric.histogram]) {
          for (const point of data?.dataPoints ?? []) {
            const attributes = point.attributes ?? []
            if (attributes.some(({ key }) => key === "unit")) unit = metric.unit ?? ""
            point.attributes = attributes.filter(({ key }) => key !== "unit")
          }
        }
        metric.unit = unit
      }
      return json.metrics(data)
    }
  }))
).pipe(Layer.provide(OtlpSerialization.layerJson))

const hasStack = (
  attributes: ReadonlyArray<{ readonly key: string; readonly value: { readonly stringValue?: unknown } }>
) => attributes.some(({ key, value }) => key === "exception.stacktrace" && /\n\s+at /.test(String(value.stringValue)))

const statusUnset = 0
const statusOk = 1
