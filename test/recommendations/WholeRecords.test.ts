import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema, Stream } from "effect"
import { Csv } from "effect/encoding"

import * as WholeRecords from "../../src/recommendations/WholeRecords.ts"
import * as OneFile from "./OneFile.ts"

/** The pieces of the file that there is. */
const pieces = Effect.gen(function* () {
  const pieces: Array<string> = []
  yield* WholeRecords.forEach("any.csv", (piece) =>
    Effect.sync(() => {
      pieces.push(new TextDecoder("utf-8", { fatal: true }).decode(piece))
    })
  )
  return pieces
})

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

  it.effect("are as large as a record is", () =>
    Effect.gen(function* () {
      const long = `"${"x\n".repeat(1_000_000)}"\n`
      assert.isTrue((yield* piecesOf(`a\n${long}`)).includes(long))
    })
  )

  it.effect("are one where it is a pipe", () =>
    Effect.gen(function* () {
      const pipe = (text: string) => Effect.provide(pieces, OneFile.pipe(new TextEncoder().encode(text)))
      assert.deepStrictEqual(yield* pipe('a\n"b'), ['a\n"b'])
      assert.deepStrictEqual(yield* pipe(""), [])
    })
  )
})
