/**
 * How the process is, under OpenTelemetry's names for Node (https://opentelemetry.io/docs/specs/semconv/runtime/nodejs-metrics/) and
 * those that every process has in Prometheus.
 */
import { monitorEventLoopDelay, performance } from "node:perf_hooks"
import { getHeapStatistics } from "node:v8"

import { Effect, type Scope } from "effect"

import * as CallbackGuard from "./CallbackGuard.ts"
import * as FileDescriptors from "./FileDescriptors.ts"
import * as LogOutput from "./LogOutput.ts"
import * as ObservableMetric from "./ObservableMetric.ts"

/** How often the event loop is looked at, in milliseconds; what comes later than that is its delay. */
const resolution = 20

/** What is said of the event loop is of that long, in milliseconds: short enough to see a hitch, and longer than most scrapes. */
const window = 15_000

/** Observes the process for as long as the scope is open. */
export const observe: Effect.Effect<void, never, Scope.Scope> = Effect.gen(function* () {
  const eventLoop = yield* observeEventLoop
  yield* Effect.forkScoped(FileDescriptors.watch())
  const seconds = { unit: "s" }
  yield* ObservableMetric.gauge("nodejs.eventloop.delay.p50", "Half of the delays", () => eventLoop().p50, seconds)
  yield* ObservableMetric.gauge("nodejs.eventloop.delay.p99", "All but a hundredth", () => eventLoop().p99, seconds)
  yield* ObservableMetric.gauge("nodejs.eventloop.delay.max", "The longest delay", () => eventLoop().max, seconds)
  yield* ObservableMetric.gauge(
    "nodejs.eventloop.utilization",
    "How much of the time it is busy",
    () => eventLoop().busy,
    {
      unit: "1"
    }
  )
  const bytes = { unit: "By" }
  yield* ObservableMetric.gauge(
    "v8js.memory.heap.used",
    "What V8 uses",
    () => getHeapStatistics().used_heap_size,
    bytes
  )
  yield* ObservableMetric.gauge(
    "v8js.memory.heap.limit",
    "What V8 may use",
    () => getHeapStatistics().heap_size_limit,
    bytes
  )
  yield* ObservableMetric.gauge("process_resident_memory_bytes", "What the process has in memory", makeResidentMemory())
  yield* ObservableMetric.counter("process_cpu_seconds_total", "The CPU time that the process has taken", () => {
    const { system, user } = process.cpuUsage()
    return (system + user) / 1e6
  })
  yield* ObservableMetric.gauge(
    "process_start_time_seconds",
    "When the process started, in seconds since 1970",
    () => performance.timeOrigin / 1000
  )
  for (const [stream, output] of Object.entries({ stdout: LogOutput.stdout, stderr: LogOutput.stderr })) {
    yield* ObservableMetric.counter(
      "log_dropped_lines_total",
      "Lines of the log that were dropped: not read, or not written, in time",
      () => output().dropped,
      { stream }
    )
  }
})

/** Reads the resident memory, for which Node opens a file: the last value is returned while no file descriptor is left. */
const makeResidentMemory = () => {
  let last = process.memoryUsage.rss()
  return () => {
    try {
      last = process.memoryUsage.rss()
    } catch {
      // the metrics are needed most while descriptors run out
    }
    return last
  }
}

/** The delays of the event loop in the last window, in seconds; of the first one, while it goes on. */
const observeEventLoop = Effect.acquireRelease(
  Effect.map(Effect.context<never>(), (context) => {
    const delays = monitorEventLoopDelay({ resolution })
    delays.enable()
    let since = performance.eventLoopUtilization()
    const read = () => {
      const toSeconds = (nanos: number) => Math.max(0, nanos / 1e9 - resolution / 1000)
      // there are none yet
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
