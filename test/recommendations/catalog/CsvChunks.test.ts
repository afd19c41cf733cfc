import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema, Stream } from "effect"
import { Csv } from "effect/encoding"

import * as WholeRecords from "../../../src/recommendations/catalog/CsvChunks.ts"
import * as OneFile from "./OneFile.ts"

/** The pieces of the file that there is. */
const pieces = Effect.gen(function* () {
  const pieces: Array<string> = []
  yield* WholeRecords.forEach("any.csv", limits, (piece) =>
    Effect.sync(() => {
      pieces.push(
        piece._tag === "Records"
          ? new TextDecoder("utf-8", { fatal: true }).decode(piece.bytes)
          : `<${piece.lineBreaks} line breaks, ${piece.brokenQuote ?? "no"} broken quote>`
      )
    })
  )
  return pieces
})

const limits: WholeRecords.Limits = { fileSize: 4_000_000, recordSize: 1000 }

/** The pieces of a file whose bytes come in parts of at most so many. */
const piecesOf = (text: string, partSize?: number) =>
  Effect.provide(pieces, OneFile.layer(new TextEncoder().encode(text), partSize))

const parse = (text: string) =>
  Stream.make(text).pipe(Stream.pipeThroughChannel(Csv.decodeString()), Stream.runCollect, Effect.orDie)

const Cell = Arbitrary.map(
  Arbitrary.schema(Schema.Array(Schema.Literals(["a", "é", "😀", ",", '"', "\n", "\r", "\r\n"]))),
  (parts) => parts.join("")
)

/** Texts of CSV with each of the line breaks that there are, with the last of them or without. */
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

describe("the pieces of a file", () => {
  it.effect.prop("are the file, and its records", [CsvText, PartSize], ([text, partSize]) =>
    Effect.gen(function* () {
      const pieces = yield* piecesOf(text, partSize)
      assert.strictEqual(pieces.join(""), text)
      const records = yield* Effect.forEach(pieces, parse)
      assert.deepStrictEqual(records.flat(), yield* parse(text))
    })
  )

  it.effect.each([
    { what: "a line feed", text: "a\nb\nc\n", pieces: ["a\n", "b\n", "c\n"] },
    { what: "both", text: "a\r\nb\r\nc\r\n", pieces: ["a\r\n", "b\r\n", "c\r\n"] },
    // only what comes after it says that there is no line feed
    { what: "a carriage return", text: "a\rb\rc\r", pieces: ["a\r", "b\r", "c\r"] },
    { what: "one outside quotes", text: '"a\n"\n"b"""\n', pieces: ['"a\n"\n', '"b"""\n'] }
  ])("end with $what", ({ pieces, text }) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* piecesOf(text, 1), pieces)
    })
  )

  const long = (content: string) => `"${content.repeat(100_000)}"\n`

  it.effect.each([
    { what: "lines", text: `a\n${long("x\n")}b\n`, lineBreaks: 100_001 },
    { what: "lines that end with both", text: `a\n${long("x\r\n")}b\n`, lineBreaks: 100_001 },
    {
      what: "lines that end with a carriage return",
      text: `a\n${long("x\r").replace(/\n$/, "\r")}b\n`,
      lineBreaks: 100_001
    },
    { what: "quotes", text: `a\n${long('""')}b\n`, lineBreaks: 1 },
    { what: "one line", text: `a\n${long("x")}b\n`, lineBreaks: 1 },
    { what: "little more than the limit", text: `a\n"${"x".repeat(1000)}"\nb\n`, lineBreaks: 1 }
  ])("have not a record of $what that is too long, but those before and after it", ({ lineBreaks, text }) =>
    Effect.gen(function* () {
      const expected = `a\n<${lineBreaks} line breaks, no broken quote>b\n`
      for (const partSize of [7, 1000, 100_000, undefined]) {
        assert.strictEqual((yield* piecesOf(text, partSize)).join(""), expected)
      }
    })
  )

  it.effect.each([
    { what: "open", text: `a\n"${"x\n".repeat(1000)}` },
    { what: "misplaced", text: `a\n"${"x\n".repeat(1000)}"x\n` },
    { what: "misplaced", text: `a\n${"x".repeat(1000)}"x"\n` }
  ])("tell of a quote that is $what in a record that is too long", ({ text, what }) =>
    Effect.gen(function* () {
      for (const partSize of [7, undefined]) {
        assert.match(
          (yield* piecesOf(text, partSize)).join(""),
          new RegExp(`^a\\n<\\d+ line breaks, ${what} broken quote>$`)
        )
      }
    })
  )

  it.effect.each(["FIFO", "CharacterDevice", "BlockDevice", "Socket", "Directory", "Unknown"] as const)(
    "are not read of a %s, which is not opened",
    (type) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Effect.provide(pieces, OneFile.other(type)))
        assert.deepStrictEqual(error, new WholeRecords.UnsuitableFile({ reason: { _tag: "NotRegular", type } }))
      })
  )

  it.effect("are not read of a file that is too large, or grows to that", () =>
    Effect.gen(function* () {
      const tooLarge = new WholeRecords.UnsuitableFile({ reason: { _tag: "TooLarge", maximum: limits.fileSize } })
      const bytes = new Uint8Array(limits.fileSize + 1).fill(0x0a)
      assert.deepStrictEqual(yield* Effect.flip(Effect.provide(pieces, OneFile.layer(bytes))), tooLarge)
      assert.deepStrictEqual(
        yield* Effect.flip(Effect.provide(pieces, OneFile.layer(bytes, Infinity, { size: 0 }))),
        tooLarge
      )
    })
  )
})
