import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, PlatformError } from "effect"

import * as CatalogFile from "../../src/recommendations/CatalogFile.ts"
import { plain } from "./Books.ts"
import * as OneFile from "./OneFile.ts"

const header = "id,title,authors,year,isbn10,categories\n"

/** Reads the books of a file that has these bytes, which come in parts of at most so many. */
const read = (content: string | Uint8Array, partSize?: number) =>
  CatalogFile.read("books.csv").pipe(
    Effect.map(({ allBooks }) => Array.from({ length: allBooks.size }, (_, position) => plain(allBooks.at(position)))),
    Effect.provide(OneFile.layer(typeof content === "string" ? new TextEncoder().encode(content) : content, partSize))
  )

const badLines = (content: string | Uint8Array) => Effect.map(Effect.flip(read(content)), (error) => error.badLines)
const message = (content: string | Uint8Array) => Effect.map(Effect.flip(read(content)), (error) => error.message)

describe("a catalogue file", () => {
  it.effect("holds a book a row", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* read(
          `${header}1,The Maltese Falcon,Dashiell Hammett,1930,0679722645,MYSTERY\r\n` +
            '2,"Dune, and ""more""","Frank Herbert, Brian Herbert",,,SCIENCE_FICTION;CLASSICS\n' +
            "3,The Odyssey,Homer,-720,014026886X,CLASSICS"
        ),
        [
          {
            id: 1,
            title: "The Maltese Falcon",
            authors: ["Dashiell Hammett"],
            year: 1930,
            isbn10: "0679722645",
            categories: ["MYSTERY"]
          },
          {
            id: 2,
            title: 'Dune, and "more"',
            authors: ["Frank Herbert", "Brian Herbert"],
            categories: ["SCIENCE_FICTION", "CLASSICS"]
          },
          {
            id: 3,
            title: "The Odyssey",
            authors: ["Homer"],
            year: -720,
            isbn10: "014026886X",
            categories: ["CLASSICS"]
          }
        ]
      )
    })
  )

  it.effect("may begin with a BOM and have blank lines", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* read(`\uFEFF${header}\n1,A,B,,,HORROR\n\n`)).length, 1)
    })
  )

  it.effect.each([
    { row: "x,A,B,,,HORROR", reason: 'id: expected a whole number from 1 to 2147483647, got "x"' },
    { row: "0,A,B,,,HORROR", reason: 'id: expected a whole number from 1 to 2147483647, got "0"' },
    { row: "2147483648,A,B,,,HORROR", reason: 'id: expected a whole number from 1 to 2147483647, got "2147483648"' },
    { row: "1e3,A,B,,,HORROR", reason: 'id: expected a whole number from 1 to 2147483647, got "1e3"' },
    { row: "1, ,B,,,HORROR", reason: 'title: expected a title, got " "' },
    { row: '1,A,"B,",,,HORROR', reason: 'authors: expected one name or more, separated by commas, got "B,"' },
    {
      row: "1,A,B,MMXX,,HORROR",
      reason: 'year: expected a whole number from -9999 to 9999 other than 0, or nothing, got "MMXX"'
    },
    {
      row: "1,A,B,,978-3,HORROR",
      reason: 'isbn10: expected nine digits and then a digit or X, or nothing, got "978-3"'
    },
    {
      row: "1,A,B,,,HORROR;COOKING",
      reason: 'categories: expected known categories, each once, separated by semicolons, got "HORROR;COOKING"'
    },
    {
      row: "1,A,B,,,HORROR;HORROR",
      reason: 'categories: expected known categories, each once, separated by semicolons, got "HORROR;HORROR"'
    },
    {
      row: "1,A,B,,,",
      reason: 'categories: expected known categories, each once, separated by semicolons, got ""'
    },
    { row: "1,A,B,,", reason: "expected 6 columns, got 5" },
    {
      row: "x,,B,,,HORROR",
      reason: 'id: expected a whole number from 1 to 2147483647, got "x"; title: expected a title, got ""'
    },
    { row: "7,A,B,,,HORROR", reason: "id: 7 is on line 2 already" }
  ])("with the row $row has a bad line", ({ reason, row }) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* badLines(`${header}7,A,B,,,HORROR\n${row}\n`), [{ line: 3, reason }])
    })
  )

  it.effect("names every bad line by its number in the file, also after cells of several lines", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        read(`${header}1,"a\nb\r\nc",B,,,HORROR\n2,A,B,,,COOKING\n\n3,A,B,,,HORROR\n3,A,B,,,HORROR\n`)
      )
      assert.deepStrictEqual(
        error.badLines.map(({ line }) => line),
        [5, 8]
      )
      assert.match(
        error.message,
        /^CATALOG_FILE="books.csv": expected a catalogue, but 2 lines are bad\n {2}line 5: .*\n/
      )
    })
  )

  it.effect("is read up to the first broken quote, whatever stands before it", () =>
    Effect.gen(function* () {
      const many = Array.from({ length: 5000 }, (_, index) => `${index + 1},Title,Author,,,HORROR\n`).join("")
      const lines = yield* badLines(`${header}${many}x,A,B,,,HORROR\n9999,"A"x,B,,,HORROR\ny,A,B,,,HORROR\n`)
      assert.deepStrictEqual(
        lines.map(({ line }) => line),
        [5002, 5003]
      )
      assert.match(lines[1]!.reason, /^a broken quote ends the reading: /)
      const open = `${header}1,"A,B,,,HORROR\n${"2,A,B,,,HORROR\n".repeat(100_000)}`
      assert.deepStrictEqual(yield* badLines(open), [
        { line: 2, reason: "a broken quote ends the reading: Unterminated quoted field" }
      ])
    })
  )

  it.effect("says which line has bytes that are not UTF-8", () =>
    Effect.gen(function* () {
      const latin1 = Buffer.from(`${header}1,A,B,,,HORROR\n2,Les Misérables,Victor Hugo,,,CLASSICS\n`, "latin1")
      assert.strictEqual(
        yield* message(latin1),
        'CATALOG_FILE="books.csv": expected a catalogue, but the file is not UTF-8\n  line 3: bytes that are not UTF-8'
      )
    })
  )

  it.effect.each([
    {
      what: "of good rows",
      content: `\uFEFF${header}1,"Les\r\nMisérables",Victor Hugo,,,CLASSICS\r\n\n2,"""😀""",B,,,HORROR\r3,C,D,-1,,HORROR`
    },
    { what: "of bad rows", content: `${header}1,A,B,,,\n\r\n1,"A\n",B,,,HORROR\r2,A,B,,,COOKING\n1,A,B,,,HORROR\n` },
    // a BOM anywhere else is a character like others
    { what: "of two that were put together", content: `\uFEFF${header}1,A,B,,,HORROR\n\uFEFF2,A,B,,,HORROR\n` },
    { what: "with a quote that is not closed", content: `${header}x,A,B,,,HORROR\n1,"A,B,,,HORROR\n2,"A"\n\n3,A` },
    { what: "with a broken quote", content: `${header}x,A,B,,,HORROR\n1,"A"x,B,,,HORROR\ny,"A",B,,,HORROR\n"` },
    { what: "with a quote in its header", content: `id,"title" ,authors\n1,A,B,,,HORROR\n` },
    {
      what: "with bytes that are not UTF-8 after all of these",
      content: Buffer.from(`${header}x,"\n\r\n",B\r1,"A"x,B,,,HORROR\n"\r\ny,é`, "latin1")
    },
    { what: "that ends in the middle of a character", content: new TextEncoder().encode(`${header}1,😀`).slice(0, -1) }
  ])("$what is the same however its bytes come", ({ content }) =>
    Effect.gen(function* () {
      const whole = yield* Effect.exit(read(content))
      for (const partSize of [1, 2, 3, 5, 16, 50]) {
        assert.deepStrictEqual(yield* Effect.exit(read(content, partSize)), whole)
      }
    })
  )

  it.effect("says of what line it is not UTF-8, whatever the lines end with and is wrong before", () =>
    Effect.gen(function* () {
      const content = Buffer.from(`${header}x,"\n\r\n",B\r1,"A"x,B,,,HORROR\n"\r\ny,é`, "latin1")
      assert.deepStrictEqual(yield* badLines(content), [{ line: 7, reason: "bytes that are not UTF-8" }])
    })
  )

  it.effect.each([
    { what: "no bytes", content: "", reason: "the file is empty" },
    { what: "no books", content: header, reason: "there are no books in it" },
    {
      what: "another header",
      content: "id,name\n1,A\n",
      reason: 'its header is not id,title,authors,year,isbn10,categories\n  line 1: "id,name"'
    },
    {
      what: "no header",
      content: "1,A,B,,,HORROR\n",
      reason: 'its header is not id,title,authors,year,isbn10,categories\n  line 1: "1,A,B,,,HORROR"'
    }
  ])("with $what is refused", ({ content, reason }) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* message(content), `CATALOG_FILE="books.csv": expected a catalogue, but ${reason}`)
    })
  )

  it.effect("has to be there", () =>
    Effect.gen(function* () {
      const notFound = PlatformError.systemError({ _tag: "NotFound", module: "FileSystem", method: "stat" })
      const error = yield* CatalogFile.read("nope.csv").pipe(
        Effect.provide(FileSystem.layerNoop({ stat: () => Effect.fail(notFound) })),
        Effect.flip
      )
      assert.strictEqual(error.message, 'CATALOG_FILE="nope.csv": expected a catalogue, but there is no such file')
    })
  )
})
