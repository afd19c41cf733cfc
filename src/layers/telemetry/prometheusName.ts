/**
 * Converts OpenTelemetry's metric names to Prometheus' names, which end in the unit
 * (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/).
 */

/** The units of metrics whose names do not contain them. */
const units: ReadonlyArray<readonly [RegExp, string]> = [
  [/^(rpc|http|db)\..+\.duration$/, "seconds"],
  [/^nodejs\.eventloop\.delay\./, "seconds"],
  [/^nodejs\.eventloop\.utilization$/, "ratio"],
  [/^v8js\.memory\./, "bytes"]
]

/** Appends the unit: "rpc.server.call.duration_seconds". Effect's PrometheusMetrics replaces the dots by underscores. */
export const prometheusName = (name: string): string => {
  const [, unit] = units.find(([pattern]) => pattern.test(name)) ?? []
  return unit === undefined ? name : `${name}_${unit}`
}
