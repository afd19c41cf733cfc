import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema, Stream } from "effect"
import { Csv } from "effect/encoding"

import * as RegularFile from "../../../src/layers/config/RegularFile.ts"
import * as CsvRecords from "../../../src/recommendations/catalog/CsvRecords.ts"
import * as OneFile from "./OneFile.ts"

const limits: CsvRecords.Limits = { fileSize: 4_000_000, recordSize: 1000 }

/** The records of the file. */
const records = Effect.gen(function* () {
  const records: Array<CsvRecords.CsvRecord> = []
  yield* CsvRecords.forEach("any.csv", limits, (record) => records.push(record))
  return records
})

/** The records of a file that is read in parts of at most `partSize` bytes. */
const recordsOf = (content: string | Uint8Array, partSize?: number) =>
  Effect.provide(
    records,
    OneFile.layer(typeof content === "string" ? new TextEncoder().encode(content) : content, partSize)
  )

const cellsOf = (records: ReadonlyArray<CsvRecords.CsvRecord>) =>
  records.map((record) => (record._tag === "Row" ? record.cells : record._tag))

const row = (line: number, ...cells: ReadonlyArray<string>): CsvRecords.CsvRecord => ({
  _tag: "Row",
  line,
  cells,
  notUtf8: undefined
})

const Cell = Arbitrary.map(
  Arbitrary.schema(Schema.Array(Schema.Literals(["a", "é", "😀", ",", '"', "\n", "\r", "\r\n"]))),
  (parts) => parts.join("")
)

/** CSV files with every kind of line break, which the last row may lack. */
const CsvText = Arbitrary.map(
  Arbitrary.all({
    rows: Arbitrary.array(Arbitrary.array(Cell, { minLength: 1, maxLength: 3 }), { maxLength: 8 }),
    breaks: Arbitrary.array(Arbitrary.schema(Schema.Literals(["\n", "\r", "\r\n"])), { minLength: 8, maxLength: 8 }),
    isEnded: Arbitrary.schema(Schema.Boolean)
  }),
  ({ breaks, isEnded, rows }) =>
    rows
      .map((cells, index) => {
        const isLast = index === rows.length - 1
        const row = cells.map((cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(",")
        return row + (isLast && !isEnded ? "" : breaks[index]!)
      })
      .join("")
)

const PartSize = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20 }))

describe("CsvRecords", () => {
  it.effect.prop("agrees with Effect's CSV decoder", [CsvText, PartSize], ([text, partSize]) =>
    Effect.gen(function* () {
      const expected = yield* Stream.make(text).pipe(
        Stream.pipeThroughChannel(Csv.decodeString()),
        Stream.runCollect,
        Effect.orDie
      )
      assert.deepStrictEqual(cellsOf(yield* recordsOf(text, partSize)), expected)
    })
  )

  it.effect.each([
    { what: "LF", text: 'a,b\n"c\n"\nd\n' },
    { what: "CRLF", text: 'a,b\r\n"c\n"\r\nd\r\n' },
    { what: "CR", text: 'a,b\r"c\n"\rd\r' },
    { what: "no line break at the end", text: 'a,b\n"c\n"\nd' },
    { what: "a byte order mark", text: '\uFEFFa,b\n"c\n"\nd' },
    { what: "a byte order mark and a quote", text: '\uFEFF"a",b\n"c\n"\nd' }
  ])("numbers the lines of a file with $what", ({ text }) =>
    Effect.gen(function* () {
      for (const partSize of [1, undefined]) {
        assert.deepStrictEqual(yield* recordsOf(text, partSize), [row(1, "a", "b"), row(2, "c\n"), row(4, "d")])
      }
    })
  )

  const long = (content: string) => `"${content.repeat(100_000)}"\n`

  it.effect.each([
    { what: "lines that end with LF", text: `a\n${long("x\n")}b\n`, lines: 100_001 },
    { what: "lines that end with CRLF", text: `a\n${long("x\r\n")}b\n`, lines: 100_001 },
    { what: "lines that end with CR", text: `a\n${long("x\r").replace(/\n$/, "\r")}b\n`, lines: 100_001 },
    { what: "quotes", text: `a\n${long('""')}b\n`, lines: 1 },
    { what: "one line", text: `a\n${long("x")}b\n`, lines: 1 },
    { what: "little more than the limit", text: `a\n"${"x".repeat(1000)}"\nb\n`, lines: 1 }
  ])("drops a record of $what that is too long, and reads on after it", ({ lines, text }) =>
    Effect.gen(function* () {
      for (const partSize of [7, 1000, 100_000, undefined]) {
        assert.deepStrictEqual(yield* recordsOf(text, partSize), [
          row(1, "a"),
          { _tag: "TooLong", line: 2 },
          row(2 + lines, "b")
        ])
      }
    })
  )

  it.effect.each([
    { text: 'a\n"b\nc', reason: "Unterminated quoted field" },
    { text: 'a\nb"\nc\n', reason: "Unexpected quote in an unquoted field" },
    { text: 'a\n"b"c\n', reason: "Expected a delimiter or line break after a closing quote" },
    { text: `a\n"${"x\n".repeat(1000)}`, reason: "Unterminated quoted field" },
    { text: `a\n"${"x\n".repeat(1000)}"x\n`, reason: "in a row of more than 1000 bytes" },
    { text: `a\n${"x".repeat(1001)}"x"\n`, reason: "in a row of more than 1000 bytes" }
  ])("ends at a broken quote: $reason", ({ reason, text }) =>
    Effect.gen(function* () {
      for (const partSize of [1, 7, undefined]) {
        assert.deepStrictEqual(yield* recordsOf(text, partSize), [
          row(1, "a"),
          { _tag: "BrokenQuote", line: 2, reason }
        ])
      }
    })
  )

  it.effect("reports the first line of a row that is not UTF-8, and each line after a broken quote", () =>
    Effect.gen(function* () {
      const bytes = Buffer.from('é\n"a\né\né",b\n"c"x\né\n\nd\ré', "latin1")
      for (const partSize of [1, 3, undefined]) {
        assert.deepStrictEqual(yield* recordsOf(bytes, partSize), [
          { _tag: "Row", line: 1, cells: ["\uFFFD"], notUtf8: 1 },
          { _tag: "Row", line: 2, cells: ["a\n\uFFFD\n\uFFFD", "b"], notUtf8: 3 },
          {
            _tag: "BrokenQuote",
            line: 5,
            reason: "Expected a delimiter or line break after a closing quote"
          },
          { _tag: "NotUtf8", line: 6 },
          { _tag: "NotUtf8", line: 9 }
        ])
      }
    })
  )

  it.effect.each(["FIFO", "CharacterDevice", "BlockDevice", "Socket", "Directory", "Unknown"] as const)(
    "rejects a %s without opening it",
    (type) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.provide(records, OneFile.other(type)))
        assert.deepStrictEqual(error, new RegularFile.UnsuitableFile({ reason: { _tag: "NotRegular", type } }))
      })
  )

  it.effect("rejects a file that is too large, or grows too large while it is read", () =>
    Effect.gen(function* () {
      const tooLarge = new RegularFile.UnsuitableFile({ reason: { _tag: "TooLarge", maximum: limits.fileSize } })
      const bytes = new Uint8Array(limits.fileSize + 1).fill(0x0a)
      assert.deepStrictEqual(yield* Effect.flip(Effect.provide(records, OneFile.layer(bytes))), tooLarge)
      assert.deepStrictEqual(
        yield* Effect.flip(Effect.provide(records, OneFile.layer(bytes, Infinity, { size: 0 }))),
        tooLarge
      )
    })
  )
})
