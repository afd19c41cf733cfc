/**
 * More pages are requested than the shop can make.
 */
import { Console, Effect } from "effect"

import * as PageLoad from "../PageLoad.ts"
import * as PodWatch from "../PodWatch.ts"
import { check, Findings, format, lost, type Part, readers, type Scenario } from "../Scenario.ts"

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
    const add = Effect.fnUntraced(function* (title: string, figures: PageLoad.Figures, mayRefuse: boolean) {
      // late pages are among those of which 99 % have to be answered in time
      const { late: _, ...failed } = figures.failed
      const counts = PodWatch.difference(before, yield* watch.counts)
      const part: Part = { title, allowedLoss: 0, ...figures, ...counts, ...(mayRefuse ? { failed } : {}), mayRefuse }
      parts.push(part)
      yield* Console.log(`  ${format(part)}`)
      return part
    })
    // the first load compiles code
    yield* runLoad({ connections }, measured)
    const capacity = yield* add(`${connections} readers`, yield* runLoad({ connections }, measured), true)
    const rate = Math.round((capacity.pages - capacity.refused - lost(capacity)) / capacity.seconds) * factor
    const figures = yield* runLoad({ rate, connections: keptOpen }, overloaded)
    const over = yield* add(`${rate} pages a second, ${figures.refused} refused`, figures, true)
    // the pod of the readers takes about two seconds to start
    yield* add("after the overload", yield* runLoad(readers, measured), false)
    yield* check(over.p99 <= maxP99, `p99 of answered pages is ${over.p99} ms, above ${maxP99} ms`)
    yield* check(over.refusedP99 <= maxP99, `p99 of refused pages is ${over.refusedP99} ms, above ${maxP99} ms`)
    yield* check(over.refused > 0, "no page was refused")
    yield* check(over.restarts === 0, `${over.restarts} restarts`)
  })
}
