/**
 * Metrics of the process: OpenTelemetry's for Node (https://opentelemetry.io/docs/specs/semconv/runtime/nodejs-metrics/) and
 * Prometheus' standard process metrics
 * (https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics).
 */
import { monitorEventLoopDelay, performance } from "node:perf_hooks"
import { getHeapStatistics } from "node:v8"

import { Effect, type Scope } from "effect"

import * as CallbackGuard from "./CallbackGuard.ts"
import * as FileDescriptors from "./FileDescriptors.ts"
import * as LogOutput from "./LogOutput.ts"
import * as ObservableMetric from "./ObservableMetric.ts"

/** The sampling interval of the event loop, in milliseconds. Time beyond it is the delay. */
const resolution = 20

/** The window that the metrics of the event loop cover, in milliseconds: short enough to show a stall, and long enough for a scrape. */
const window = 15_000

/** Registers the metrics until the scope closes. */
export const observe: Effect.Effect<void, never, Scope.Scope> = Effect.gen(function* () {
  const eventLoop = yield* observeEventLoop
  yield* Effect.forkScoped(FileDescriptors.watch())
  yield* ObservableMetric.gauges(
    [
      ["nodejs.eventloop.delay.p50", "Median delay of the event loop, in seconds", () => eventLoop().p50],
      [
        "nodejs.eventloop.delay.p99",
        "99th percentile of the delay of the event loop, in seconds",
        () => eventLoop().p99
      ],
      ["nodejs.eventloop.delay.max", "Longest delay of the event loop, in seconds", () => eventLoop().max]
    ],
    { unit: "s" }
  )
  yield* ObservableMetric.gauges(
    [["nodejs.eventloop.utilization", "Share of time that the event loop is busy", () => eventLoop().busy]],
    { unit: "1" }
  )
  yield* ObservableMetric.gauges(
    [
      ["v8js.memory.heap.used", "Heap in use", () => getHeapStatistics().used_heap_size],
      ["v8js.memory.heap.limit", "Heap limit of V8", () => getHeapStatistics().heap_size_limit]
    ],
    { unit: "By" }
  )
  yield* ObservableMetric.gauges([
    ["process_resident_memory_bytes", "Resident memory", makeResidentMemory()],
    [
      "process_start_time_seconds",
      "Start time of the process, in seconds since 1970",
      () => performance.timeOrigin / 1000
    ]
  ])
  yield* ObservableMetric.counter("process_cpu_seconds_total", "User and system CPU time", () => {
    const { system, user } = process.cpuUsage()
    return (system + user) / 1e6
  })
  for (const [stream, output] of Object.entries({ stdout: LogOutput.stdout, stderr: LogOutput.stderr })) {
    yield* ObservableMetric.counter(
      "log_dropped_lines_total",
      "Log lines that were dropped because the output was not read or a write failed",
      () => output().dropped,
      { stream }
    )
  }
})

/** Reads the resident memory. Node opens a file for it, so the last value is returned while no file descriptor is free. */
const makeResidentMemory = () => {
  let last = process.memoryUsage.rss()
  return () => {
    try {
      last = process.memoryUsage.rss()
    } catch {
      // without a free descriptor the other metrics must still be served
    }
    return last
  }
}

/** The delays in the last complete window, in seconds, and the utilization; those of the first window until it is complete. */
const observeEventLoop = Effect.acquireRelease(
  Effect.map(Effect.context<never>(), (context) => {
    const delays = monitorEventLoopDelay({ resolution })
    delays.enable()
    let since = performance.eventLoopUtilization()
    const read = () => {
      const toSeconds = (nanos: number) => Math.max(0, nanos / 1e9 - resolution / 1000)
      // without samples the percentiles are not defined
      const isEmpty = delays.count === 0
      return {
        p50: isEmpty ? 0 : toSeconds(delays.percentile(50)),
        p99: isEmpty ? 0 : toSeconds(delays.percentile(99)),
        max: isEmpty ? 0 : toSeconds(delays.max),
        busy: performance.eventLoopUtilization(since).utilization
      }
    }
    let last: ReturnType<typeof read> | undefined
    const onWindow = CallbackGuard.make(context)("event loop delay", () => {
      last = read()
      delays.reset()
      since = performance.eventLoopUtilization()
    })
    const timer = setInterval(onWindow, window).unref()
    return {
      current: () => last ?? read(),
      close: () => {
        clearInterval(timer)
        delays.disable()
      }
    }
  }),
  ({ close }) => Effect.sync(close)
).pipe(Effect.map(({ current }) => current))
