/**
 * Preloaded into a measured server. On a message from the parent it reports the bytes allocated on the heap since the start and Node's
 * warnings, and optionally writes a heap snapshot first.
 */
import { getHeapStatistics, writeHeapSnapshot } from "node:v8"

/** The reply to a {@link Question}. */
export interface Inspected {
  readonly allocated: number
  readonly warnings: ReadonlyArray<string>
}

/** A request of the parent; with a file name, a heap snapshot is written before the reply. */
export type Question = { readonly writeHeapTo?: string }

const warnings: Array<string> = []
process.on("warning", ({ name }) => warnings.push(name))

process.on("message", ({ writeHeapTo }: Question) => {
  // this collects garbage first
  if (writeHeapTo !== undefined) writeHeapSnapshot(writeHeapTo)
  // missing in Node's types
  const { total_allocated_bytes: allocated } = getHeapStatistics() as unknown as {
    readonly total_allocated_bytes: number
  }
  process.send?.({ allocated, warnings } satisfies Inspected)
})
process.channel?.unref()
