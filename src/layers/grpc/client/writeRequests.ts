/**
 * Writes a stream of requests to a grpc-js call at the pace of the server.
 */
import type { Writable } from "node:stream"

import { Effect } from "effect"

/** Writes messages in order, and suspends while the buffer of the stream is full. */
export const writeAll = (stream: Writable, messages: ReadonlyArray<unknown>): Effect.Effect<void> => {
  let next = 0
  const writeMore = (): Effect.Effect<void> => {
    while (next < messages.length) {
      if (!stream.write(messages[next++])) return Effect.flatMap(drained(stream), writeMore)
    }
    return Effect.void
  }
  return Effect.suspend(writeMore)
}

/** Waits for `drain`. A cancelled call never emits it: its fiber is interrupted. */
const drained = (stream: Writable): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const onDrain = () => resume(Effect.void)
    stream.once("drain", onDrain)
    return Effect.sync(() => stream.off("drain", onDrain))
  })
