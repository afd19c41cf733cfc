/**
 * Writing to a stream of Node's at the pace of whoever reads it.
 */
import type { Writable } from "node:stream"

import { Effect } from "effect"

/** Observes what a writer has made and the reader has not taken. */
export interface WriteObserver {
  /** Whether the writer waits for the reader. */
  readonly onWaiting: (isWaiting: boolean) => void
  /** So many bytes more are underway, or no longer if negative. Small messages are not counted. */
  readonly onUnsent: (bytes: number) => void
}

/** Messages below this size are not counted one by one, in bytes. */
const smallMessage = 512

const nobody: WriteObserver = { onWaiting: () => {}, onUnsent: () => {} }

/**
 * Writes messages in turn, each encoded when its turn comes. None is while the stream has enough: Node's mark for that is 16 messages.
 */
export const writeAll = <Message>(
  stream: Writable,
  messages: ReadonlyArray<Message>,
  encode: (message: Message) => unknown,
  observer: WriteObserver = nobody
): Effect.Effect<void> => {
  let next = 0
  const write = (encoded: unknown): boolean => {
    if (!Buffer.isBuffer(encoded) || encoded.length < smallMessage) return stream.write(encoded)
    observer.onUnsent(encoded.length)
    return stream.write(encoded, () => observer.onUnsent(-encoded.length))
  }
  const writeMore = (): Effect.Effect<void> => {
    while (next < messages.length) {
      if (!write(encode(messages[next++]!))) return Effect.flatMap(drained(stream, observer), writeMore)
    }
    return Effect.void
  }
  return Effect.suspend(writeMore)
}

/** Waits until the stream takes more. A call that is cancelled never does, which is why its fiber is interrupted. */
const drained = (stream: Writable, observer: WriteObserver): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const onDrain = () => {
      observer.onWaiting(false)
      resume(Effect.void)
    }
    observer.onWaiting(true)
    stream.once("drain", onDrain)
    return Effect.sync(() => stream.off("drain", onDrain))
  })
