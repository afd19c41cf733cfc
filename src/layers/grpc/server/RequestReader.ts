/**
 * The stream of requests of one call, read at the pace of its handler: a few messages ahead, so that the handler gets them in chunks.
 */
import { Array, Cause, Effect, Stream } from "effect"

/** The source of the messages. */
export interface RequestSource {
  /** Reads the next message: {@link RequestReader.push} or {@link RequestReader.end} follows, at once or later. */
  readonly startRead: () => void
  /** Called when the handler has taken messages, with their size in bytes. */
  readonly onTaken: (bytes: number) => void
}

/** How many messages are read ahead: as many as Node's streams of objects buffer. */
const readAhead = 16

export class RequestReader {
  /** Ends after the last request. It does not end when the client disconnects: the handler is then interrupted. */
  readonly stream: Stream.Stream<unknown>
  readonly #source: RequestSource
  readonly #queue: globalThis.Array<unknown> = []
  /** The sizes in bytes of messages that the handler has not taken yet, whether they are decoded or not. */
  readonly #sizes: globalThis.Array<number> = []
  #state: "idle" | "reading" | "ended" = "idle"
  /** Resumes the handler if it waits for a message. */
  #resume: (() => void) | undefined = undefined

  constructor(source: RequestSource) {
    this.#source = source
    this.stream = Stream.fromPull(Effect.succeed(Effect.suspend(() => this.#pull())))
  }

  /** Announces a message of `bytes`. */
  expect(bytes: number): void {
    this.#sizes.push(bytes)
  }

  push(message: unknown): void {
    this.#queue.push(message)
    this.#state = "idle"
    this.#read()
    this.#wake()
  }

  end(): void {
    this.#state = "ended"
    this.#wake()
  }

  #pull(): Effect.Effect<Array.NonEmptyArray<unknown>, Cause.Done> {
    if (this.#queue.length === 0) this.#read()
    const messages = this.#queue.splice(0)
    if (Array.isArrayNonEmpty(messages)) {
      this.#read()
      let bytes = 0
      for (const size of this.#sizes.splice(0, messages.length)) bytes += size
      this.#source.onTaken(bytes)
      return Effect.succeed(messages)
    }
    if (this.#state === "ended") return Cause.done()
    return Effect.callback((resume) => {
      this.#resume = () => resume(Effect.suspend(() => this.#pull()))
      return Effect.sync(() => (this.#resume = undefined))
    })
  }

  #read(): void {
    if (this.#state !== "idle" || this.#queue.length >= readAhead) return
    this.#state = "reading"
    this.#source.startRead()
  }

  #wake(): void {
    const resume = this.#resume
    this.#resume = undefined
    resume?.()
  }
}
