/**
 * Serializes OTLP payloads as JSON, after corrections of the data that Effect's exporters produce.
 */
import { Effect, Layer } from "effect"
import { OtlpSerialization } from "effect/observability"

type Serialization = OtlpSerialization.OtlpSerialization["Service"]
type TraceData = Parameters<Serialization["traces"]>[0]
type MetricData = Parameters<Serialization["metrics"]>[0]

/** OTLP as JSON. */
export const otlpSerialization = Layer.effect(
  OtlpSerialization.OtlpSerialization,
  Effect.map(OtlpSerialization.OtlpSerialization, (json) => ({
    ...json,
    traces: (data) => {
      correctSpans(data)
      return json.traces(data)
    },
    metrics: (data) => {
      correctUnits(data)
      return json.metrics(data)
    }
  }))
).pipe(Layer.provide(OtlpSerialization.layerJson))

/** Leaves the status of successful spans unset, and removes exception events without a stack trace. */
const correctSpans = (data: TraceData): void => {
  for (const { events, status } of data.resourceSpans
    .flatMap(({ scopeSpans }) => scopeSpans)
    .flatMap(({ spans }) => spans)) {
    // instrumentation must not set Ok (https://opentelemetry.io/docs/specs/otel/trace/api/#set-status)
    if (status.code === statusOk) (status as { code: number }).code = statusUnset
    // a failure that is not an exception is described by the status alone
    const thrown = events.filter(({ attributes, name }) => name !== "exception" || hasStack(attributes))
    events.splice(0, events.length, ...thrown)
  }
}

const statusUnset = 0
const statusOk = 1

const hasStack = (
  attributes: ReadonlyArray<{ readonly key: string; readonly value: { readonly stringValue?: unknown } }>
) => attributes.some(({ key, value }) => key === "exception.stacktrace" && /\n\s+at /.test(String(value.stringValue)))

/** Removes the attribute `unit` from data points, and leaves the unit of metrics without that attribute empty instead of "1". */
const correctUnits = (data: MetricData): void => {
  for (const metric of data.resourceMetrics
    .flatMap(({ scopeMetrics }) => scopeMetrics)
    .flatMap(({ metrics }) => metrics)) {
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
}
