/**
 * The bucket boundaries of duration histograms, in seconds: those of OpenTelemetry's conventions for HTTP and RPC, which start at 5 ms, and
 * smaller ones, since most requests take less.
 */
export const durationBoundaries = [
  0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10
]
