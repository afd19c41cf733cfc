/**
 * Sends the messages of a stream of responses at the pace of the client.
 */
import { Effect } from "effect"

/** Where messages go. */
export interface ResponseSink {
  /** `onWritten` is called when the message is on its way; never if the call ends before. */
  readonly sendMessage: (message: Buffer, onWritten: () => void) => void
  /** So many bytes more wait to be sent; fewer if negative. */
  readonly onUnsent: (bytes: number) => void
  /** The writer waits for the client, or continues. */
  readonly setPaused: (isPaused: boolean) => void
}

/** How many messages may wait to be sent: as many as Node's streams of objects buffer. */
const highWaterMark = 16

/** Messages below this size are not counted one by one, in bytes. */
const smallMessage = 512

export class ResponseWriter<Message> {
  readonly #sink: ResponseSink
  readonly #encode: (message: Message) => Buffer
  /** How many messages wait to be sent. */
  #unsent = 0
  /** Continues the writer, if it waits. */
  #resume: (() => void) | undefined = undefined

  constructor(sink: ResponseSink, encode: (message: Message) => Buffer) {
    this.#sink = sink
    this.#encode = encode
  }

  /** Encodes and sends the messages in turn, and waits whenever too many wait to be sent. */
  write(messages: ReadonlyArray<Message>): Effect.Effect<void> {
    let next = 0
    const writeMore = (): Effect.Effect<void> => {
      while (next < messages.length) {
        this.#send(this.#encode(messages[next++]!))
        if (this.#unsent >= highWaterMark) return Effect.flatMap(this.#drained, writeMore)
      }
      return Effect.void
    }
    return Effect.suspend(writeMore)
  }

  #send(message: Buffer): void {
    const counted = message.length < smallMessage ? 0 : message.length
    this.#unsent++
    if (counted > 0) this.#sink.onUnsent(counted)
    this.#sink.sendMessage(message, () => this.#onWritten(counted))
  }

  #onWritten(bytes: number): void {
    this.#unsent--
    if (bytes > 0) this.#sink.onUnsent(-bytes)
    if (this.#unsent > 0 || this.#resume === undefined) return
    const resume = this.#resume
    this.#resume = undefined
    this.#sink.setPaused(false)
    resume()
  }

  /** Waits until all messages are sent. That never happens once the call is cancelled: its fiber is interrupted then. */
  readonly #drained = Effect.callback<void>((resume) => {
    this.#sink.setPaused(true)
    this.#resume = () => resume(Effect.void)
    return Effect.sync(() => (this.#resume = undefined))
  })
}
