/**
 * The identity of a service in its telemetry: name and version on each log line, and a metric registry of its own.
 *
 * {@link layer} is the outermost layer of a service, so that everything in it is observed. {@link OtlpExport} is closed before the
 * admin port and after the servers, so that the last spans are exported:
 *
 * ```ts
 * Api.layer.pipe(
 *   NodeGrpcServer.listenConfig("API"),
 *   Layer.provide(OtlpExport.layer),
 *   Layer.provide(AdminServer.layerConfig("API", 9101)),
 *   Telemetry.provide({ name: "api", version: "1.0.0" })
 * )
 * ```
 */
import { type Config, Context, Effect, Layer, Metric, Option, References } from "effect"

import * as ObservableMetric from "./ObservableMetric.ts"
import * as OtlpSettings from "./OtlpSettings.ts"
import * as ProcessMetrics from "./ProcessMetrics.ts"

/** The name and version of a service. */
export interface Service {
  readonly name: string
  readonly version: string
}

/** The service that the current effect belongs to. */
export const CurrentService = Context.Reference<Service>("layers/telemetry/Telemetry/CurrentService", {
  defaultValue: () => ({ name: "unknown_service:node", version: "0.0.0" })
})

/** Whether the process runs several services. Each then keeps its own name. */
const IsShared = Context.Reference<boolean>("layers/telemetry/Telemetry/IsShared", { defaultValue: () => false })

/** For a process with several services: OTEL_SERVICE_NAME is ignored. */
export const layerShared: Layer.Layer<never> = Layer.succeed(IsShared, true)

/** Annotates log lines with the name and version of a service, and provides its metric registry with the metrics of the process. */
export const layer = (service: Service): Layer.Layer<never, Config.ConfigError> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const { resourceAttributes, serviceName } = yield* OtlpSettings.settings
      const given = Option.getOrElse(serviceName, () => resourceAttributes["service.name"] ?? service.name)
      const name = (yield* IsShared) ? service.name : given
      const known = { ...service, name }
      return Layer.effectDiscard(
        Effect.andThen(
          ProcessMetrics.observe,
          // the name in the code and not OTEL_SERVICE_NAME, since alerts select by it
          ObservableMetric.gauge(
            "build_info",
            "Always 1; its labels are the service, its version and Node's version",
            () => 1,
            {
              service: service.name,
              version: service.version,
              node_version: process.version
            }
          )
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

/** Provides {@link layer} to a layer. */
export const provide =
  (service: Service) =>
  <A, E, R>(self: Layer.Layer<A, E, R>): Layer.Layer<A, E | Config.ConfigError, R> =>
    Layer.provide(self, layer(service))
