/**
 * The parts of the benchmark that its verdicts depend on.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import protobuf from "protobufjs"

import * as Catalogues from "../../bench/Catalogues.ts"
import * as HeapSnapshot from "../../bench/HeapSnapshot.ts"
import * as Goodput from "../../bench/hostile/Goodput.ts"
import * as ReaderCalls from "../../bench/ReaderCalls.ts"
import * as Report from "../../bench/Report.ts"
import type { Row } from "../../bench/Row.ts"
import * as Slope from "../../bench/Slope.ts"
import { type Feedback, isUuid } from "../../src/domain/Feedback.ts"
import * as CatalogFile from "../../src/recommendations/catalog/CatalogFile.ts"
import { EncodedBook } from "../../src/recommendations/catalog/EncodedCatalog.ts"

layer(NodeServices.layer)("a benchmark catalogue", (it) => {
  it.effect.each([
    { what: "the shipped catalogue", make: Catalogues.shipped, size: 200 },
    { what: "a generated catalogue", make: () => Catalogues.madeUp(1_000), size: 1_000 }
  ])("has books of equal encoded size: $what", ({ make, size }) =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { bookSize, text } = make()
      const path = yield* fs.makeTempFileScoped()
      yield* fs.writeFileString(path, text)
      const file = { variable: "CATALOG_FILE", path, maxSize: 100_000_000 }
      const { bookCount } = yield* CatalogFile.read(file, (books) =>
        Effect.sync(() => {
          for (const book of books) assert.strictEqual(EncodedBook.response([book]).bytes.length, bookSize)
        })
      )
      assert.strictEqual(bookCount, size)
    }).pipe(Effect.scoped)
  )
})

it("HeapSnapshot.objectBytes counts the program's objects, and neither code nor hidden objects of V8", () => {
  const objects = [
    { type: "object", bytes: 1 },
    { type: "code", bytes: 10 },
    { type: "string", bytes: 100 },
    { type: "hidden", bytes: 1_000 }
  ]
  const types = objects.map(({ type }) => type)
  const snapshot = {
    snapshot: { meta: { node_fields: ["id", "self_size", "type"], node_types: ["number", "number", types] } },
    nodes: objects.flatMap(({ bytes, type }, id) => [id, bytes, types.indexOf(type)])
  }
  assert.strictEqual(HeapSnapshot.objectBytes(JSON.stringify(snapshot)), 101)
})

describe("goodput", () => {
  /** A second of correct responses, a second of wrong ones, and a second of correct ones. */
  const report: Goodput.Report = {
    buckets: Array.from({ length: 30 }, (_, at) => ({ asked: 10, good: at < 10 || at >= 20 ? 10 : 0 })),
    marks: {}
  }

  it("is the share of requests in an interval with a correct response", () => {
    assert.strictEqual(Goodput.share(report, 0, 1_000), 1)
    assert.strictEqual(Goodput.share(report, 500, 1_500), 0.5)
    assert.strictEqual(Goodput.share(report, 1_000, 2_000), 0)
    // an interval without requests
    assert.strictEqual(Goodput.share(report, 5_000, 6_000), 0)
  })

  it("has recovered at the start of the first second above the threshold", () => {
    assert.strictEqual(Goodput.timeToRecover(report, 1_000, 0.98), 1_000)
    assert.strictEqual(Goodput.timeToRecover(report, 1_000, 0.9), 900)
    assert.strictEqual(Goodput.timeToRecover(report, 2_500, 0.98), undefined)
  })
})

describe("a slope", () => {
  it("is the rise from the first value to the last", () => {
    assert.deepStrictEqual(Slope.of([1, 3, 5, 7]), { rise: 6, noise: 0 })
  })

  it("distinguishes a rise from noise", () => {
    const waves = Array.from({ length: 40 }, (_, at) => 100 + 5 * Math.sin(at * 1.7))
    const flat = Slope.of(waves)
    assert.isBelow(Math.abs(flat.rise), flat.noise)
    const rising = Slope.of(waves.map((value, at) => value + at / 2))
    assert.isAbove(rising.rise, rising.noise)
  })
})

it("ReaderCalls.record makes a new id for each record, and expects all records to be recorded", () => {
  const proto = protobuf.loadSync("proto/onlinebooks/recommendations/v1/recommendations.proto")
  const typeOf = (name: string) => proto.lookupType(`onlinebooks.recommendations.v1.${name}`)
  const { isExpected, message } = ReaderCalls.record(100, [1, 2, 3])
  const ids = [message(), message()].flatMap((request) =>
    (typeOf("RecordFeedbackRequest").decode(request).toJSON()["feedback"] as Array<Feedback>).map(
      ({ feedbackId }) => feedbackId
    )
  )
  assert.isTrue(ids.every(isUuid))
  assert.strictEqual(new Set(ids).size, 200)
  const response = (counts: object) => Buffer.from(typeOf("RecordFeedbackResponse").encode(counts).finish())
  assert.isTrue(isExpected(response({ recordedCount: 100, duplicateCount: 0 })))
  assert.isFalse(isExpected(response({ recordedCount: 99, duplicateCount: 1 })))
})

it("ReaderCalls.list counts the listed records", () => {
  const feedback = (count: number) => Buffer.concat(Array.from({ length: count }, () => Buffer.of(0x0a, 1, 0)))
  const book = Buffer.of(0x12, 2, 0x08, 1)
  const { isExpected } = ReaderCalls.list()
  assert.isTrue(isExpected(Buffer.concat([feedback(50), book])))
  assert.isFalse(isExpected(Buffer.concat([feedback(49), book])))
})

describe("a report", () => {
  const line = (name: string, cpu: number, median: number) => ({
    name,
    cpu: { best: cpu, middle: cpu },
    median: { best: median, middle: median }
  })
  const row: Row = {
    key: "row",
    title: "A row",
    targets: [
      { against: "theirs", column: "cpu", atLeast: 1.15 },
      { against: "theirs", column: "median", atMost: 1.05 },
      { against: "missing", column: "cpu", atLeast: 1 },
      { against: "", column: "memory", fact: "bytes", atMost: 600 }
    ],
    run: () => Promise.reject(new Error("not run"))
  }

  it("lists the targets that are reached and missed", () => {
    const reached = { lines: [line("ours", 100, 105), line("theirs", 115, 100)], facts: { bytes: 600 } }
    assert.deepStrictEqual(
      Report.verdicts(row, reached).map(({ isReached }) => isReached),
      [true, true, true]
    )
    const missed = { lines: [line("ours", 100, 106), line("theirs", 114, 100)], facts: { bytes: 601 } }
    assert.deepStrictEqual(
      Report.verdicts(row, missed).map(({ isReached }) => isReached),
      [false, false, false]
    )
    assert.include(Report.format(row, missed), "| theirs | 114.0 (114.0) | 1.14 |")
  })

  it("compares a throughput the other way round, since more is better", () => {
    const throughput = (name: string, best: number) => ({ name, throughput: { best, middle: best } })
    const verdicts = (ours: number) =>
      Report.verdicts(
        { ...row, targets: [{ against: "theirs", column: "throughput", atLeast: 0.8 }] },
        { lines: [throughput("ours", ours), throughput("theirs", 100)] }
      )
    assert.deepStrictEqual(
      verdicts(80).map(({ isReached, value }) => [value, isReached]),
      [[0.8, true]]
    )
    assert.deepStrictEqual(
      verdicts(79).map(({ isReached }) => isReached),
      [false]
    )
  })
})
