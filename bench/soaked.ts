/**
 * Loaded into a server before all else by {@link file://./soak.ts}: when its parent asks, it collects all garbage and says how much of
 * the heap is left, and what Node has warned of so far.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

const warnings: Array<string> = []
process.on("warning", ({ name }) => warnings.push(name))

process.on("message", () => {
  collect()
  process.send?.({ heap: process.memoryUsage().heapUsed, warnings })
})
process.channel?.unref()
