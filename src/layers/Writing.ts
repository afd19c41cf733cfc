/**
 * Writing to a stream of Node's at the pace of whoever reads it.
 */
import type { Writable } from "node:stream"

import { Effect } from "effect"

/**
 * Writes messages in turn, each made into what the stream takes when its turn comes. None is while the stream has enough:
 * Node's mark for that is 16 messages.
 */
export const writeAll = <Message>(
  stream: Writable,
  messages: ReadonlyArray<Message>,
  encode: (message: Message) => unknown
): Effect.Effect<void> => {
  let next = 0
  const writeMore = (): Effect.Effect<void> => {
    while (next < messages.length) {
      if (!stream.write(encode(messages[next++]!))) return Effect.flatMap(drained(stream), writeMore)
    }
    return Effect.void
  }
  return Effect.suspend(writeMore)
}

/** Waits until the stream takes more. A call that is cancelled never does, which is why its fiber is interrupted. */
const drained = (stream: Writable): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const onDrain = () => resume(Effect.void)
    stream.once("drain", onDrain)
    return Effect.sync(() => stream.off("drain", onDrain))
  })
