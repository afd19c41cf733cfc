/**
 * Sends the messages of a stream of responses at the pace of the client, and the status after them.
 */
import { Effect } from "effect"

/** The destination of the messages and the status. */
export interface ResponseSink<Status> {
  /** `onWritten` is called when the message has been written, and never if the call ends first. */
  readonly sendMessage: (message: Buffer, onWritten: () => void) => void
  readonly sendStatus: (status: Status) => void
  /** Called when the bytes that wait to be sent change, with the difference. */
  readonly onUnsent: (bytes: number) => void
  /** Called when the handler is blocked on a slow reader, and when it is resumed. */
  readonly setPaused: (isPaused: boolean) => void
}

/** How many messages may wait to be sent before the handler is suspended: as many as in Node's streams of objects. */
const highWaterMark = 16

/** Messages below this size, in bytes, are covered by the per-call overhead. */
const smallMessage = 512

export class ResponseWriter<Status> {
  readonly #sink: ResponseSink<Status>
  /** Messages that wait to be sent; the first one is being sent. */
  readonly #queue: Array<Buffer> = []
  /** Sent once the queue is empty. */
  #status: Status | undefined = undefined
  /** Resumes the handler if it is suspended. */
  #resume: (() => void) | undefined = undefined

  constructor(sink: ResponseSink<Status>) {
    this.#sink = sink
  }

  /** Sends messages, and encodes each right before it is sent or queued. */
  write<Message>(messages: ReadonlyArray<Message>, encode: (message: Message) => Buffer): Effect.Effect<void> {
    let next = 0
    const writeMore = (): Effect.Effect<void> => {
      while (next < messages.length) {
        this.#enqueue(encode(messages[next++]!))
        if (this.#queue.length >= highWaterMark) return Effect.flatMap(this.#drained, writeMore)
      }
      return Effect.void
    }
    return Effect.suspend(writeMore)
  }

  /** Sends the status after the last message. */
  end(status: Status): void {
    if (this.#queue.length === 0) this.#sink.sendStatus(status)
    else this.#status = status
  }

  #enqueue(message: Buffer): void {
    if (message.length >= smallMessage) this.#sink.onUnsent(message.length)
    if (this.#queue.push(message) === 1) this.#sink.sendMessage(message, this.#onWritten)
  }

  readonly #onWritten = (): void => {
    const written = this.#queue.shift()!
    if (written.length >= smallMessage) this.#sink.onUnsent(-written.length)
    const [next] = this.#queue
    if (next !== undefined) return this.#sink.sendMessage(next, this.#onWritten)
    if (this.#status !== undefined) this.#sink.sendStatus(this.#status)
    this.#resume?.()
  }

  /** Waits until the queue is empty. It stays full if the call is cancelled, which interrupts the handler. */
  readonly #drained = Effect.callback<void>((resume) => {
    this.#sink.setPaused(true)
    this.#resume = () => {
      this.#resume = undefined
      this.#sink.setPaused(false)
      resume(Effect.void)
    }
    return Effect.sync(() => (this.#resume = undefined))
  })
}
