/**
 * Loaded into a server before all else, by those who look into it: it says how many bytes have been allocated on its heap since the
 * start, and what Node has warned of; and writes what is on its heap to a file that its parent names.
 */
import { getHeapStatistics, writeHeapSnapshot } from "node:v8"

/** What a server says of itself. */
export interface Inspected {
  readonly allocated: number
  readonly warnings: ReadonlyArray<string>
}

/** What its parent asks for: only that, or after what is in use has been written to a file. */
export type Question = { readonly writeHeapTo?: string }

const warnings: Array<string> = []
process.on("warning", ({ name }) => warnings.push(name))

process.on("message", ({ writeHeapTo }: Question) => {
  // garbage is collected first
  if (writeHeapTo !== undefined) writeHeapSnapshot(writeHeapTo)
  // Node's types do not have it yet
  const { total_allocated_bytes: allocated } = getHeapStatistics() as unknown as {
    readonly total_allocated_bytes: number
  }
  process.send?.({ allocated, warnings } satisfies Inspected)
})
process.channel?.unref()
