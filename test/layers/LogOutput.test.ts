import { Writable } from "node:stream"

import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"

import { LogOutput } from "../../src/layers/LogOutput.ts"

/** A stream that takes a write only when the test says so, or fails it. */
const makeStream = () => {
  const written: Array<string> = []
  let done: (() => void) | undefined
  let isStopped = false
  let failure: Error | undefined
  const stream = new Writable()
  // like Node's standard streams, it takes writes again after an error
  stream.write = (chunk: Buffer, ...rest: ReadonlyArray<unknown>) => {
    const callback = rest.at(-1) as (error?: Error) => void
    if (failure === undefined) written.push(String(chunk))
    if (isStopped) done = callback
    else process.nextTick(callback, failure)
    return true
  }
  return {
    stream,
    text: () => written.join(""),
    stop: () => {
      isStopped = true
    },
    go: () => {
      isStopped = false
      done?.()
    },
    fail: (error: Error | undefined) => {
      failure = error
    }
  }
}

const flushed = (output: LogOutput) => Effect.callback<void>((resume) => output.flush(() => resume(Effect.void)))

const describeDropped = (count: number) => `${count} dropped\n`

/** Fails until it is so. */
const eventually = (check: () => boolean) =>
  Effect.suspend(() => (check() ? Effect.void : Effect.fail("not yet"))).pipe(
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeout("5 seconds"),
    Effect.orDie
  )

describe("an output", () => {
  it.live("writes all lines in their order", () =>
    Effect.gen(function* () {
      const { stream, text } = makeStream()
      const output = new LogOutput(stream, { batchSize: 100 })
      const lines = Array.from({ length: 1000 }, (_, index) => `line ${index}\n`)
      for (const line of lines) output.write(line)
      yield* flushed(output)
      assert.strictEqual(text(), lines.join(""))
      assert.strictEqual(output.dropped, 0)
    })
  )

  it.live("whose reader has stopped keeps the latest lines, in bounded memory, and says how many it dropped", () =>
    Effect.gen(function* () {
      const { go, stop, stream, text } = makeStream()
      const output = new LogOutput(stream, { capacity: 10_000 })
      output.describeDropped = describeDropped
      stop()
      for (let index = 0; index < 100_000; index++) {
        output.write(`line ${index}\n`)
        assert.isAtMost(output.backlog, 10_000)
        assert.isAtMost(stream.writableLength, 100)
      }
      assert.isAbove(output.dropped, 99_000)
      const { dropped } = output
      go()
      yield* flushed(output)
      const lines = text().split("\n").slice(0, -1)
      // the first was with the stream already
      assert.deepStrictEqual(lines.slice(0, 3), ["line 0", `${dropped} dropped`, `line ${dropped + 1}`])
      assert.strictEqual(lines.at(-1), "line 99999")
      assert.strictEqual(lines.length, 100_000 - dropped + 1)
      // it is told once
      output.write("more\n")
      yield* flushed(output)
      assert.strictEqual(text().match(/dropped/g)?.length, 1)
    })
  )

  it.live("that fails drops what it was given, and goes on when it can", () =>
    Effect.gen(function* () {
      const { fail, stream, text } = makeStream()
      const output = new LogOutput(stream, { retryDelay: 5 })
      output.describeDropped = describeDropped
      fail(new Error("ENOSPC"))
      output.write("a\n")
      yield* flushed(output)
      output.write("b\n")
      yield* eventually(() => output.dropped === 2)
      fail(undefined)
      output.write("c\n")
      yield* eventually(() => text() !== "")
      assert.strictEqual(text(), "2 dropped\nc\n")
    })
  )

  it.live("takes lines again after an error that its stream tells between writes", () =>
    Effect.gen(function* () {
      const { stream, text } = makeStream()
      const output = new LogOutput(stream)
      stream.emit("error", new Error("EPIPE"))
      output.write("a\n")
      yield* flushed(output)
      assert.strictEqual(text(), "a\n")
    })
  )
})
