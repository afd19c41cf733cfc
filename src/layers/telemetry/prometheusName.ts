/**
 * Metrics under the names that Prometheus has for them: OpenTelemetry's with the unit at the end
 * (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/).
 */

/** The units of metrics whose names do not have them, by how OpenTelemetry's names end. */
const units: ReadonlyArray<readonly [RegExp, string]> = [
  [/^(rpc|http)\..+\.duration$/, "seconds"],
  [/^nodejs\.eventloop\.delay\./, "seconds"],
  [/^nodejs\.eventloop\.utilization$/, "ratio"],
  [/^v8js\.memory\./, "bytes"]
]

/** As "rpc.server.call.duration_seconds", whose dots become underscores too. */
export const prometheusName = (name: string): string => {
  const [, unit] = units.find(([pattern]) => pattern.test(name)) ?? []
  return unit === undefined ? name : `${name}_${unit}`
}
