/**
 * Loaded into a server before all else, by those who look into it: whatever its parent asks for, it says how many bytes have been
 * allocated on its heap since the start, and what Node has warned of; and what is left on the heap, without garbage if it is to
 * collect that. What V8 compiles is on the heap as well, for many minutes more and more of it, and is not counted.
 */
import { getHeapSpaceStatistics, getHeapStatistics, setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

/** What a server says of itself. */
export interface Inspected {
  readonly allocated: number
  readonly heap: number
  readonly warnings: ReadonlyArray<string>
}

const warnings: Array<string> = []
process.on("warning", ({ name }) => warnings.push(name))

let collect: (() => void) | undefined

process.on("message", (what: "collect" | "look") => {
  if (what === "collect") {
    if (collect === undefined) {
      setFlagsFromString("--expose-gc")
      collect = runInNewContext("gc") as () => void
    }
    collect()
  }
  // Node's types do not have it yet
  const { total_allocated_bytes: allocated } = getHeapStatistics() as unknown as {
    readonly total_allocated_bytes: number
  }
  const heap = getHeapSpaceStatistics()
    .filter(({ space_name }) => !/code|trusted/.test(space_name))
    .reduce((sum, { space_used_size }) => sum + space_used_size, 0)
  process.send?.({ allocated, heap, warnings } satisfies Inspected)
})
process.channel?.unref()
