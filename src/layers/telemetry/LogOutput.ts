/**
 * Writes log lines to stdout or stderr with bounded memory and without blocking the event loop, also when the reader of a pipe stalls,
 * a pipe is closed, a disk is full or a terminal is paused. Lines that do not fit are dropped, the oldest first, and counted.
 *
 * Node's own streams block on a paused terminal, and buffer without limit for a pipe that is not read.
 */
import { writeSync } from "node:fs"
import type { Writable } from "node:stream"

import * as CallbackGuard from "./CallbackGuard.ts"

/** Limits of an output. */
export interface Options {
  /** Maximum bytes of queued lines (1 MiB). */
  readonly capacity?: number | undefined
  /** Maximum bytes of one write to the stream (64 KiB). */
  readonly batchSize?: number | undefined
  /** The pause before the next write after a failed one, in milliseconds (1000). */
  readonly retryDelay?: number | undefined
}

/** `idle`: no write is pending; `writing`: a write is pending; `failed`: a write failed, and a retry is scheduled. */
type State = "idle" | "writing" | "failed"

/** The members of Node's standard streams besides those of Writable. */
interface StandardStream extends Writable {
  readonly fd?: number
  readonly isTTY?: boolean
}

/** The approximate overhead of a queued line, in bytes. */
const overhead = 128

/** Placeholder for a dequeued line, so that the memory of the line can be collected. */
const dequeued = Buffer.alloc(0)

const guard = CallbackGuard.make()

/** The queue of one stream. */
export class LogOutput {
  readonly #stream: StandardStream
  readonly #capacity: number
  readonly #batchSize: number
  readonly #retryDelay: number
  #state: State = "idle"
  /** The queued lines start at index {@link #first}; earlier ones have been dequeued. */
  #lines: Array<Buffer> = []
  #first = 0
  #size = 0
  #dropped = 0
  /** Dropped lines that no log line has reported yet. */
  #unreported = 0
  readonly #waiting = new Set<() => void>()
  /** Formats the line that reports dropped lines. It is written before the lines that follow them. */
  describeDropped: ((count: number) => string) | undefined

  constructor(stream: Writable, { batchSize = 65_536, capacity = 1_048_576, retryDelay = 1000 }: Options = {}) {
    this.#stream = stream
    this.#capacity = capacity
    this.#batchSize = batchSize
    this.#retryDelay = retryDelay
    // errors are handled in the callback of each write
    stream.on("error", () => {})
    neverBlock(stream)
  }

  /** The number of dropped lines. */
  get dropped(): number {
    return this.#dropped
  }

  /** Bytes of queued lines, excluding those passed to the stream. */
  get backlog(): number {
    return this.#size
  }

  /** Queues a line, which includes its line break. */
  write(line: string): void {
    const bytes = Buffer.from(line)
    this.#lines.push(bytes)
    this.#size += bytes.length + overhead
    while (this.#size > this.#capacity) {
      this.#dequeue()
      this.#drop(1)
    }
    if (this.#state === "idle") this.#pump()
  }

  /** Calls back once all lines are written or a write has failed; synchronously if no write is pending. */
  flush(done: () => void): void {
    if (this.#state === "writing") this.#waiting.add(done)
    else done()
  }

  /** Writes the queued lines synchronously, for the exit of the process. Waits at most `timeout` milliseconds for the reader. */
  flushBlocking(timeout: number): void {
    const { fd, isTTY } = this.#stream
    const lines = this.#dequeueAll()
    if (lines.length === 0) return
    // the pending write may have ended in the middle of a line
    if (this.#state === "writing") lines.unshift(Buffer.from("\n"))
    const bytes = Buffer.concat(lines)
    // writeSync to a paused terminal would block forever instead of failing with EAGAIN
    if (fd === undefined || isTTY === true) this.#stream.write(bytes)
    else writeFully(fd, bytes, timeout)
  }

  /** Writes the next batch of lines to the stream. */
  #pump(): void {
    const reported = this.#unreported
    const batch = this.#dequeueBatch()
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

  /** Dequeues the oldest line. */
  #dequeue(): Buffer {
    const line = this.#lines[this.#first]!
    this.#lines[this.#first] = dequeued
    this.#first++
    this.#size -= line.length + overhead
    if (this.#first === this.#lines.length || this.#first >= 4096) {
      this.#lines = this.#lines.slice(this.#first)
      this.#first = 0
    }
    return line
  }

  #dequeueBatch(): Array<Buffer> {
    const batch: Array<Buffer> = []
    for (let size = 0; this.#lines.length > this.#first;) {
      size += this.#lines[this.#first]!.length
      if (size > this.#batchSize && batch.length > 0) break
      batch.push(this.#dequeue())
    }
    return batch
  }

  #dequeueAll(): Array<Buffer> {
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
 * Makes writes to a terminal non-blocking. Node makes them blocking (https://nodejs.org/api/process.html#a-note-on-process-io) and has
 * no public API to change that, so a paused output (Ctrl-S) would block the event loop. libuv has reopened the terminal, so the
 * descriptors of other programs stay blocking. Without the private member, writes stay blocking.
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
      // the process exits, so blocking is acceptable
      // oxlint-disable-next-line node/no-sync
      written += writeSync(fd, bytes, written)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || performance.now() >= until) return
      Atomics.wait(cell, 0, 0, 5)
    }
  }
}

/** How long an exit may block to write queued lines, in milliseconds. */
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

/** The output to stdout, shared by all services of the process. */
export const stdout: () => LogOutput = ofStream(() => process.stdout)

/** The output to stderr. */
export const stderr: () => LogOutput = ofStream(() => process.stderr)
