/**
 * Exports traces and metrics over OTLP/HTTP (https://opentelemetry.io/docs/specs/otlp/).
 */
import { randomUUID } from "node:crypto"

import { type Config, ConfigProvider, Effect, Layer, Option, Redacted, Tracer } from "effect"
import { OtlpExporter, OtlpMetrics, OtlpTracer } from "effect/observability"

import * as OtlpExportQueue from "./OtlpExportQueue.ts"
import { otlpSerialization } from "./otlpSerialization.ts"
import * as OtlpSettings from "./OtlpSettings.ts"
import * as Sampling from "./Sampling.ts"
import { CurrentService } from "./Telemetry.ts"

/**
 * Exports traces and metrics by {@link OtlpSettings}, and flushes them when it closes. Without a collector it is a no-op. Each
 * service of a process has its own, with its resource attributes.
 */
export const layer: Layer.Layer<never, Config.ConfigError> = Layer.unwrap(
  Effect.gen(function* () {
    const { endpoint, headers, metricsInterval, resourceAttributes, sampler, timeout, tracesInterval } =
      yield* OtlpSettings.settings
    if (Option.isNone(endpoint)) return Layer.empty
    const service = yield* CurrentService
    // otherwise Node's fetch keeps a performance entry of each request to the collector
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
    yield* Effect.logInfo(`Exporting telemetry to ${new URL(url).origin}`)
    return Layer.merge(traces, metrics).pipe(
      Layer.provide(OtlpExporter.layerFlusher),
      Layer.provide(otlpSerialization),
      // Effect's exporters must not read the environment again: the settings above are complete and validated
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({})))
    )
  })
).pipe(Layer.fresh)
