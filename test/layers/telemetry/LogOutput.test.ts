import { spawn } from "node:child_process"
import { closeSync, openSync, readFileSync } from "node:fs"
import { Writable } from "node:stream"

import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Schedule } from "effect"

import { LogOutput } from "../../../src/layers/telemetry/LogOutput.ts"

/** A stream whose writes complete or fail when the test says so. */
const makeStream = () => {
  const written: Array<string> = []
  let attempts = 0
  let done: (() => void) | undefined
  let isStopped = false
  let failure: Error | undefined
  const stream = new Writable()
  // like Node's standard streams, it accepts writes after an error
  stream.write = (chunk: Buffer, ...rest: ReadonlyArray<unknown>) => {
    const callback = rest.at(-1) as (error?: Error) => void
    attempts++
    if (failure === undefined) written.push(String(chunk))
    if (isStopped) done = callback
    else if (typeof callback === "function") process.nextTick(callback, failure)
    return true
  }
  return {
    stream,
    text: () => written.join(""),
    /** The text of each write. */
    writes: () => written,
    attempts: () => attempts,
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

/** Polls until the check is true. */
const eventually = (check: () => boolean) =>
  Effect.suspend(() => (check() ? Effect.void : Effect.fail("not yet"))).pipe(
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeout("5 seconds"),
    Effect.orDie
  )

describe("LogOutput", () => {
  it.live("writes all lines in order", () =>
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

  it.live(
    "keeps the newest lines in bounded memory while the reader stalls, and reports the number of dropped ones",
    () =>
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
        // the first line had been passed to the stream
        assert.deepStrictEqual(lines.slice(0, 3), ["line 0", `${dropped} dropped`, `line ${dropped + 1}`])
        assert.strictEqual(lines.at(-1), "line 99999")
        assert.strictEqual(lines.length, 100_000 - dropped + 1)
        // dropped lines are reported once
        output.write("more\n")
        yield* flushed(output)
        assert.strictEqual(text().match(/dropped/g)?.length, 1)
      })
  )

  it.live("drops the lines of a failed write and resumes later", () =>
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

  it.live("pauses after a failed write", () =>
    Effect.gen(function* () {
      const { attempts, fail, stream } = makeStream()
      const output = new LogOutput(stream, { retryDelay: 3_600_000 })
      fail(new Error("ENOSPC"))
      output.write("a\n")
      yield* flushed(output)
      for (let count = 0; count < 10; count++) output.write("b\n")
      yield* flushed(output)
      assert.strictEqual(attempts(), 1)
    })
  )

  it.live("writes batches of whole lines up to the batch size", () =>
    Effect.gen(function* () {
      const { go, stop, stream, writes } = makeStream()
      const output = new LogOutput(stream, { batchSize: 100 })
      stop()
      const lines = [40, 40, 40, 10, 50, 300, 1].map((length) => `${"x".repeat(length - 1)}\n`)
      for (const line of ["first\n", ...lines]) output.write(line)
      go()
      yield* flushed(output)
      assert.deepStrictEqual(
        writes().map(({ length }) => length),
        [6, 80, 100, 300, 1]
      )
    })
  )

  it("counts the memory overhead of each line", () => {
    const { stop, stream } = makeStream()
    const output = new LogOutput(stream, { capacity: 10_000 })
    stop()
    for (let count = 0; count < 1_000; count++) output.write("\n")
    assert.isAbove(output.dropped, 900)
  })

  it.live("survives an error event between writes", () =>
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

describe("LogOutput at the exit of the process", () => {
  /** Queues lines on a stalled stream, and returns what its file contains after the flush at exit. */
  const exiting = (
    properties: { readonly isTTY?: boolean },
    wait: (output: LogOutput) => void,
    options: { readonly capacity?: number } = {}
  ) =>
    Effect.gen(function* () {
      const path = `${yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()}/log`
      const fd = yield* Effect.acquireRelease(
        Effect.sync(() => openSync(path, "w")),
        (fd) => Effect.sync(() => closeSync(fd))
      )
      const { stop, stream, text } = makeStream()
      const output = new LogOutput(Object.assign(stream, { fd, ...properties }), options)
      output.describeDropped = describeDropped
      stop()
      wait(output)
      output.flushBlocking(1_000)
      return { backlog: output.backlog, inFile: readFileSync(path, "utf8"), inStream: text() }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

  it.live("writes the queued lines after a line break, since the pending write may be half a line", () =>
    Effect.gen(function* () {
      const { backlog, inFile, inStream } = yield* exiting({}, (output) => {
        for (const line of ["a\n", "b\n", "c\n"]) output.write(line)
      })
      assert.deepStrictEqual([inStream, inFile, backlog], ["a\n", "\nb\nc\n", 0])
    })
  )

  it.live("reports the number of dropped lines", () =>
    Effect.gen(function* () {
      const { inFile } = yield* exiting(
        {},
        (output) => {
          for (const line of ["a\n", "b\n", "c\n", "d\n"]) output.write(line)
        },
        { capacity: 150 }
      )
      assert.strictEqual(inFile, "\n2 dropped\nd\n")
    })
  )

  it.live("writes nothing if nothing is queued", () =>
    Effect.gen(function* () {
      const { inFile } = yield* exiting({}, (output) => output.write("a\n"))
      assert.strictEqual(inFile, "")
    })
  )

  it.live("does not block on a terminal that may be paused", () =>
    Effect.gen(function* () {
      const { inFile, inStream } = yield* exiting({ isTTY: true }, (output) => {
        for (const line of ["a\n", "b\n"]) output.write(line)
      })
      assert.deepStrictEqual([inFile, inStream], ["", "a\n\nb\n"])
    })
  )

  /** Runs a program in which `output` writes to stdout, a pipe that is read only by `read`. */
  const run = Effect.fnUntraced(function* (program: string, ...flags: ReadonlyArray<string>) {
    const url = new URL("../../../src/layers/telemetry/LogOutput.ts", import.meta.url).href
    const code = `import * as LogOutput from ${JSON.stringify(url)}\nconst output = LogOutput.stdout()\n${program}`
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [...flags, "--input-type=module", "--eval", code], {
          stdio: ["ignore", "pipe", "pipe"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    const exited = new Promise<number | null>((resolve) => child.on("exit", (code) => resolve(code)))
    let said = ""
    child.stderr.on("data", (chunk) => (said += String(chunk)))
    return {
      said: () => said,
      exitCode: Effect.timeout(
        Effect.promise(() => exited),
        "15 seconds"
      ),
      read: Effect.promise(() => child.stdout.toArray()).pipe(Effect.map((chunks) => Buffer.concat(chunks).toString()))
    }
  })

  /** More than the buffer of a pipe holds. */
  const many = Array.from({ length: 1_000 }, (_, index) => `${String(index).padStart(899, "x")}\n`)
  const writeMany = `for (let i = 0; i < ${many.length}; i++) output.write(String(i).padStart(899, "x") + "\\n")`

  it.live("writes the lines before process.exit", () =>
    Effect.gen(function* () {
      const { exitCode, read } = yield* run(`output.write("a\\n")\noutput.write("b\\n")\nprocess.exit(7)`)
      assert.strictEqual(yield* read, "a\n\nb\n")
      assert.strictEqual(yield* exitCode, 7)
    }).pipe(Effect.scoped)
  )

  it.live("does not wait for a reader that has stalled", () =>
    Effect.gen(function* () {
      const { exitCode } = yield* run(`${writeMany}\nprocess.exit(7)`)
      assert.strictEqual(yield* exitCode, 7)
    }).pipe(Effect.scoped)
  )

  it.live("waits for a slow reader and loses no line", () =>
    Effect.gen(function* () {
      const { exitCode, read, said } = yield* run(
        `${writeMany}\nprocess.stderr.write("now")\noutput.flushBlocking(60_000)\nprocess.exit(7)`
      )
      yield* eventually(() => said() === "now")
      assert.strictEqual(yield* read, many.toSpliced(1, 0, "\n").join(""))
      assert.strictEqual(yield* exitCode, 7)
    }).pipe(Effect.scoped)
  )

  it.live("releases the memory of dropped lines", () =>
    Effect.gen(function* () {
      const { exitCode, said } = yield* run(
        `const used = () => {
          gc()
          const { arrayBuffers, heapUsed } = process.memoryUsage()
          return arrayBuffers + heapUsed
        }
        const before = used()
        for (let i = 0; i < 1_000_000; i++) output.write("\\n")
        for (let i = 0; i < 10_000; i++) output.write("x".repeat(8_000) + "\\n")
        // buffers are released concurrently, and subtracted at a later collection
        process.stderr.write(String(Math.min(...Array.from({ length: 10 }, used)) - before))
        process.exit(7)`,
        "--expose-gc"
      )
      assert.strictEqual(yield* exitCode, 7)
      assert.isBelow(Number(said()), 5_000_000)
    }).pipe(Effect.scoped)
  )
})
