/**
 * Preloaded into a measured server: replies to each message of the parent with the delays of the event loop since the last one.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import { isMainThread } from "node:worker_threads"

/** In milliseconds. */
export interface EventLoopDelay {
  readonly p99: number
  readonly max: number
}

/** The sampling interval, in milliseconds. Time beyond it is the delay. */
const resolution = 1

if (isMainThread) {
  const histogram = monitorEventLoopDelay({ resolution })
  histogram.enable()
  process.on("message", () => {
    const delay = (nanos: number) => Math.max(0, nanos / 1e6 - resolution)
    process.send?.({ p99: delay(histogram.percentile(99)), max: delay(histogram.max) } satisfies EventLoopDelay)
    histogram.reset()
  })
  process.channel?.unref()
}
