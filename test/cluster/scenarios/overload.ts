import { Console, Effect } from "effect"

import * as PageLoad from "../PageLoad.ts"
import * as PodWatch from "../PodWatch.ts"
import { check, Findings, lost, rate, readers, type Scenario } from "../Scenario.ts"

/** Readers that request one page after another, to find out how many pages a second the shop makes. */
const connections = 48

/** Connections that are open before the overload begins. */
const keptOpen = 3_000

/** How long the capacity is measured, and how long the overload lasts, in seconds. */
const measured = 10
const overloaded = 20

/** The overload, as a multiple of the capacity. */
const factor = 2

/** The 99th percentile of the latencies of answered and of refused pages in an overload, in milliseconds. */
const maxP99 = 1_000

const runLoad = (options: PageLoad.Options, seconds: number) =>
  Effect.gen(function* () {
    const load = yield* PageLoad.start(options)
    yield* Effect.sleep(`${seconds} seconds`)
    return yield* load.finish
  }).pipe(Effect.scoped)

export const overload: Scenario = {
  name: "overload",
  description: `Requests ${factor} times as many pages as the shop makes, on connections that are kept open`,
  run: Effect.gen(function* () {
    const watch = yield* PodWatch.PodWatch
    const { parts } = yield* Findings
    const before = yield* watch.counts
    // the first load compiles code
    yield* runLoad({ connections }, measured)
    const capacity = yield* runLoad({ connections }, measured)
    const pagesPerSecond = Math.round((capacity.pages - capacity.refused - lost(capacity.failed)) / capacity.seconds)
    const over = yield* runLoad({ rate: factor * pagesPerSecond, connections: keptOpen }, overloaded)
    // the readers' pod takes about two seconds to start
    const after = yield* runLoad(readers, 10)
    const counts = PodWatch.difference(before, yield* watch.counts)

    yield* Console.log(
      `  ${pagesPerSecond} pages a second are made; of ${factor * pagesPerSecond} requested for ${overloaded} s, ` +
        `${over.pages - over.refused} were answered (p50 ${over.p50} ms, p99 ${over.p99} ms, slowest ${over.max} ms), ` +
        `${over.refused} refused with 503 (p99 ${over.refusedP99} ms), ${lost(over.failed)} failed: ` +
        `${JSON.stringify(over.failed)}`
    )
    // late pages are among those of which 99 % have to be answered in time
    const { late = 0 } = over.failed
    yield* check(lost(over.failed) === late, `${lost(over.failed) - late} of ${over.pages} pages failed`)
    yield* check(over.p99 <= maxP99, `p99 of answered pages is ${over.p99} ms, above ${maxP99} ms`)
    yield* check(over.refusedP99 <= maxP99, `p99 of refused pages is ${over.refusedP99} ms, above ${maxP99} ms`)
    yield* check(over.refused > 0, "no page was refused")
    yield* check(counts.restarts === 0, `${counts.restarts} restarts`)
    parts.push({ title: `after the overload, ${rate} pages a second`, allowedLoss: 0, ...after, ...counts })
  })
}
