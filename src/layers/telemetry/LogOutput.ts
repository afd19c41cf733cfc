/**
 * Writes log lines to stdout or stderr in bounded memory and without blocking the event loop, whoever reads them: a pipe whose
 * reader has stopped, a closed pipe, a full disk, a terminal that is paused. What does not fit is dropped, the oldest line first,
 * and counted.
 *
 * Node's own streams block on a paused terminal, and queue without limit for a pipe that nobody reads.
 */
import { writeSync } from "node:fs"
import type { Writable } from "node:stream"

import * as CallbackGuard from "./CallbackGuard.ts"

export interface Options {
  /** The most bytes that wait for the reader (1 MiB). */
  readonly capacity?: number | undefined
  /** The most bytes that are given to the stream at a time (64 KiB). */
  readonly batchSize?: number | undefined
  /** How long a stream that failed is left alone, in milliseconds (1000). */
  readonly retryDelay?: number | undefined
}

/** `idle`: the stream takes lines; `writing`: it has some that are not written yet; `failed`: it will be tried again later. */
type State = "idle" | "writing" | "failed"

/** What Node's standard streams have besides a Writable's members. */
interface StandardStream extends Writable {
  readonly fd?: number
  readonly isTTY?: boolean
}

/** What a waiting line costs besides its bytes, roughly. */
const overhead = 128

/** Stands where a line was, whose memory is free then. */
const taken = Buffer.alloc(0)

const guard = CallbackGuard.make()

export class LogOutput {
  readonly #stream: StandardStream
  readonly #capacity: number
  readonly #batchSize: number
  readonly #retryDelay: number
  #state: State = "idle"
  /** Lines that wait, from {@link #first} on; those before have been taken. */
  #lines: Array<Buffer> = []
  #first = 0
  #size = 0
  #dropped = 0
  /** Dropped lines that no line has told of yet. */
  #unreported = 0
  readonly #waiting = new Set<() => void>()
  /** Makes the line that tells how many lines have been dropped; it goes before those that follow. */
  describeDropped: ((count: number) => string) | undefined

  constructor(stream: Writable, { batchSize = 65_536, capacity = 1_048_576, retryDelay = 1000 }: Options = {}) {
    this.#stream = stream
    this.#capacity = capacity
    this.#batchSize = batchSize
    this.#retryDelay = retryDelay
    // told to the callback of each write too
    stream.on("error", () => {})
    neverBlock(stream)
  }

  /** How many lines have been dropped so far. */
  get dropped(): number {
    return this.#dropped
  }

  /** How many bytes wait for the reader, those that the stream has been given not included. */
  get backlog(): number {
    return this.#size
  }

  /** Writes a line, which ends with its line break, now or later. */
  write(line: string): void {
    const bytes = Buffer.from(line)
    this.#lines.push(bytes)
    this.#size += bytes.length + overhead
    while (this.#size > this.#capacity) {
      this.#take()
      this.#drop(1)
    }
    if (this.#state === "idle") this.#pump()
  }

  /** Calls back once all lines are written, or cannot be: at once where there are none. */
  flush(done: () => void): void {
    if (this.#state === "writing") this.#waiting.add(done)
    else done()
  }

  /** Writes what waits before the process exits, blocking for at most some milliseconds where the reader does not take it. */
  flushBlocking(timeout: number): void {
    const { fd, isTTY } = this.#stream
    const lines = this.#takeAll()
    if (lines.length === 0) return
    // the stream's own bytes may have ended in the middle of a line
    if (this.#state === "writing") lines.unshift(Buffer.from("\n"))
    const bytes = Buffer.concat(lines)
    // a terminal that is paused would block for ever, and is not told by EAGAIN
    if (fd === undefined || isTTY === true) this.#stream.write(bytes)
    else writeFully(fd, bytes, timeout)
  }

  /** Gives the next lines to the stream. */
  #pump(): void {
    const reported = this.#unreported
    const batch = this.#takeBatch()
    if (batch.length === 0) return
    const lineCount = batch.length
    if (reported > 0 && this.describeDropped !== undefined) {
      batch.unshift(Buffer.from(this.describeDropped(reported)))
      this.#unreported = 0
    }
    this.#state = "writing"
    const onWritten = (error?: Error | null) => {
      if (error === undefined || error === null) {
        this.#state = "idle"
        this.#pump()
      } else {
        this.#drop(lineCount)
        this.#unreported += batch.length > lineCount ? reported : 0
        this.#fail()
      }
      if (this.#state !== "writing") this.#release()
    }
    this.#stream.write(batch.length === 1 ? batch[0] : Buffer.concat(batch), guard("log output", onWritten))
  }

  #fail(): void {
    this.#state = "failed"
    const retry = guard("log output's retry", () => {
      this.#state = "idle"
      this.#pump()
    })
    setTimeout(retry, this.#retryDelay).unref()
  }

  #release(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const done of waiting) done()
  }

  #drop(count: number): void {
    this.#dropped += count
    this.#unreported += count
  }

  /** Takes the oldest line. */
  #take(): Buffer {
    const line = this.#lines[this.#first]!
    this.#lines[this.#first] = taken
    this.#first++
    this.#size -= line.length + overhead
    if (this.#first === this.#lines.length || this.#first >= 4096) {
      this.#lines = this.#lines.slice(this.#first)
      this.#first = 0
    }
    return line
  }

  #takeBatch(): Array<Buffer> {
    const batch: Array<Buffer> = []
    for (let size = 0; this.#lines.length > this.#first;) {
      size += this.#lines[this.#first]!.length
      if (size > this.#batchSize && batch.length > 0) break
      batch.push(this.#take())
    }
    return batch
  }

  #takeAll(): Array<Buffer> {
    const lines = this.#lines.slice(this.#first)
    if (lines.length > 0 && this.#unreported > 0 && this.describeDropped !== undefined) {
      lines.unshift(Buffer.from(this.describeDropped(this.#unreported)))
    }
    this.#lines = []
    this.#first = 0
    this.#size = 0
    return lines
  }
}

/**
 * Node sets a terminal to blocking writes (https://nodejs.org/api/process.html#a-note-on-process-io) and has no public way to undo
 * it: while a user pauses the output (Ctrl-S), the event loop would stand still. libuv has opened the terminal anew, so that no
 * other program's descriptor becomes non-blocking. Where the member is missing, writes go on blocking.
 */
const neverBlock = (stream: StandardStream): void => {
  if (stream.isTTY !== true) return
  const { _handle: handle } = stream as { readonly _handle?: { readonly setBlocking?: unknown } }
  if (typeof handle?.setBlocking === "function") handle.setBlocking(false)
}

const cell = new Int32Array(new SharedArrayBuffer(4))

const writeFully = (fd: number, bytes: Buffer, timeout: number): void => {
  const until = performance.now() + timeout
  let written = 0
  while (written < bytes.length) {
    try {
      // nothing runs any more that would wait for it
      // oxlint-disable-next-line node/no-sync
      written += writeSync(fd, bytes, written)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || performance.now() >= until) return
      Atomics.wait(cell, 0, 0, 5)
    }
  }
}

/** How long an exit may block for lines that wait, in milliseconds. */
const exitTimeout = 500

const ofStream = (get: () => Writable): (() => LogOutput) => {
  let output: LogOutput | undefined
  return () => {
    if (output === undefined) {
      const made = new LogOutput(get())
      process.on(
        "exit",
        guard("exit listener", () => made.flushBlocking(exitTimeout))
      )
      output = made
    }
    return output
  }
}

/** The output of the process, one for all its services. */
export const stdout: () => LogOutput = ofStream(() => process.stdout)

/** Where errors go that end the process. */
export const stderr: () => LogOutput = ofStream(() => process.stderr)
