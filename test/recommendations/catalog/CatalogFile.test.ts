import { createHash } from "node:crypto"

import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, PlatformError } from "effect"

import type { Book } from "../../../src/domain/Book.ts"
import * as CatalogFile from "../../../src/recommendations/catalog/CatalogFile.ts"
import * as OneFile from "./OneFile.ts"

const header = "id,title,authors,year,isbn10,categories\n"

const file: CatalogFile.CatalogFile = { variable: "CATALOG_FILE", path: "books.csv", maxSize: 100_000_000 }

/** Reads the books of a file with this content, in parts of at most `partSize` bytes. */
const read = (content: string | Uint8Array, partSize?: number) =>
  Effect.gen(function* () {
    const books: Array<Book> = []
    const { bookCount } = yield* CatalogFile.read(file, (batch) => Effect.sync(() => void books.push(...batch)))
    assert.strictEqual(bookCount, books.length)
    return books
  }).pipe(
    Effect.provide(OneFile.layer(typeof content === "string" ? new TextEncoder().encode(content) : content, partSize))
  )

const badLines = (content: string | Uint8Array) => Effect.map(Effect.flip(read(content)), (error) => error.badLines)
const message = (content: string | Uint8Array) => Effect.map(Effect.flip(read(content)), (error) => error.message)

const id = "id: expected a whole number from 1 to 2147483647, got "
const title = "title: expected a title of one line and at most 512 characters, got "
const authors = "authors: expected one name or more, separated by commas, at most 100 of at most 256 characters, got "
const known = "categories: expected known categories, each once, separated by semicolons, got "

describe("CatalogFile", () => {
  it.effect("reads one book from each row", () =>
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

  it.effect("passes books in batches while it reads, and returns the SHA-256 of the file", () =>
    Effect.gen(function* () {
      const rows = Array.from({ length: 10_100 }, (_, index) => `${index + 1},Title,Author,,,HORROR\n`)
      const bytes = new TextEncoder().encode(header + rows.join(""))
      const batches: Array<ReadonlyArray<Book>> = []
      const use = (batch: ReadonlyArray<Book>) => Effect.sync(() => void batches.push(batch))
      const [summary, sha256] = yield* Effect.all([CatalogFile.read(file, use), CatalogFile.sha256(file)]).pipe(
        Effect.provide(OneFile.layer(bytes))
      )
      assert.deepStrictEqual([...new Set(batches.map(({ length }) => length))], [250, 100])
      assert.deepStrictEqual(
        batches.flat().map(({ id }) => id),
        rows.map((_, index) => index + 1)
      )
      const expected = createHash("sha256").update(bytes).digest("hex")
      assert.deepStrictEqual([summary.bookCount, summary.sha256, sha256], [10_100, expected, expected])
    })
  )

  it.effect("passes no more books once a row is invalid", () =>
    Effect.gen(function* () {
      const good = Array.from({ length: 10_000 }, (_, index) => `${index + 1},Title,Author,,,HORROR\n`).join("")
      const bytes = new TextEncoder().encode(`${header}x,A,B,,,HORROR\n${good}`)
      const error = yield* CatalogFile.read(file, () => Effect.die(new Error("it was passed"))).pipe(
        Effect.provide(OneFile.layer(bytes)),
        Effect.flip
      )
      assert.deepStrictEqual(
        error.badLines.map(({ line }) => line),
        [2]
      )
    })
  )

  it.effect("trims titles and names", () =>
    Effect.gen(function* () {
      const [book] = yield* read(`${header}1,\u00A0 The Title ,"  Ann A , Bob B ",,,HORROR\n`)
      assert.deepInclude(book, { title: "The Title", authors: ["Ann A", "Bob B"] })
    })
  )

  it.effect("accepts a byte order mark and blank lines", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* read(`\uFEFF${header}\n1,A,B,,,HORROR\n\n`)).length, 1)
    })
  )

  it.effect.each([
    { row: "x,A,B,,,HORROR", reason: `${id}"x"` },
    { row: "0,A,B,,,HORROR", reason: `${id}"0"` },
    { row: "2147483648,A,B,,,HORROR", reason: `${id}"2147483648"` },
    { row: "1e3,A,B,,,HORROR", reason: `${id}"1e3"` },
    { row: "\uFEFF2,T,A,,,MYSTERY", reason: `${id}"\\ufeff2"` },
    { row: "\u200B2,T,A,,,MYSTERY", reason: `${id}"\\u200b2"` },
    { row: "1, ,B,,,HORROR", reason: `${title}" "` },
    { row: "2,\u200B,A,,,MYSTERY", reason: `${title}"\\u200b"` },
    { row: "2,\u00A0\u2028,A,,,MYSTERY", reason: `${title}"\\u00a0\\u2028"` },
    { row: "2,A\u0000B,A,,,MYSTERY", reason: `${title}"A\\u0000B"` },
    { row: "2,\u{E0041},A,,,MYSTERY", reason: `${title}"\\u{e0041}"` },
    { row: '2,"The Bill\nof Rights",A,,,MYSTERY', reason: `${title}"The Bill\\nof Rights"` },
    {
      row: `2,${"x".repeat(513)},A,,,MYSTERY`,
      reason: `${title}"${"x".repeat(200)}... (truncated, 313 more characters)"`
    },
    { row: '1,A,"B,",,,HORROR', reason: `${authors}"B,"` },
    { row: "2,T,\u200B,,,MYSTERY", reason: `${authors}"\\u200b"` },
    {
      row: `2,T,${"x".repeat(257)},,,MYSTERY`,
      reason: `${authors}"${"x".repeat(200)}... (truncated, 57 more characters)"`
    },
    {
      row: `2,T,"${"x,".repeat(100)}x",,,MYSTERY`,
      reason: `${authors}"${"x,".repeat(100)}... (truncated, 1 more characters)"`
    },
    {
      row: "1,A,B,MMXX,,HORROR",
      reason: 'year: expected a whole number from -9999 to 9999 other than 0, or nothing, got "MMXX"'
    },
    {
      row: "1,A,B,,978-3,HORROR",
      reason: 'isbn10: expected nine digits and then a digit or X, or nothing, got "978-3"'
    },
    { row: "1,A,B,,,HORROR;COOKING", reason: `${known}"HORROR;COOKING"` },
    { row: "1,A,B,,,HORROR;HORROR", reason: `${known}"HORROR;HORROR"` },
    { row: "1,A,B,,,", reason: `${known}""` },
    { row: "1,A,B,,", reason: "expected 6 columns, got 5" },
    { row: "x,,B,,,HORROR", reason: `${id}"x"; ${title}""` },
    { row: "7,A,B,,,HORROR", reason: "id: 7 duplicates line 2" },
    { row: `2,${"x".repeat(5_000_000)},A,,,MYSTERY`, reason: "expected a row of at most 65536 bytes" }
  ])("rejects a row, shows its invisible characters in a message, and reads on: $reason", ({ reason, row }) =>
    Effect.gen(function* () {
      const [first, second, ...others] = yield* badLines(`${header}7,A,B,,,HORROR\n${row}\n3,T,A,,,COOKING\n`)
      assert.deepStrictEqual(first, { line: 3, reason })
      assert.strictEqual(second?.line, 4 + (row.match(/\n/g)?.length ?? 0))
      assert.deepStrictEqual(others, [])
    })
  )

  it.effect("reports every bad row by its line number, also after cells of several lines", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        read(`${header}1,"a\nb\r\nc",B,,,HORROR\n2,A,B,,,COOKING\n\n3,A,B,,,HORROR\n3,A,B,,,HORROR\n`)
      )
      assert.deepStrictEqual(
        error.badLines.map(({ line }) => line),
        [2, 5, 8]
      )
      assert.match(
        error.message,
        /^CATALOG_FILE="books.csv": expected a catalogue, but 3 lines are invalid\n {2}line 2: .*\n {2}line 5: .*\n/
      )
    })
  )

  it.effect("reports all bad rows up to the first broken quote", () =>
    Effect.gen(function* () {
      const many = Array.from({ length: 5000 }, (_, index) => `${index + 1},Title,Author,,,HORROR\n`).join("")
      const lines = yield* badLines(`${header}${many}x,A,B,,,HORROR\n9999,"A"x,B,,,HORROR\ny,A,B,,,HORROR\n`)
      assert.deepStrictEqual(
        lines.map(({ line }) => line),
        [5002, 5003]
      )
      assert.match(lines[1]!.reason, /^parsing stopped at an invalid quote: /)
      const open = `${header}1,"A,B,,,HORROR\n${"2,A,B,,,HORROR\n".repeat(100_000)}`
      assert.deepStrictEqual(yield* badLines(open), [
        { line: 2, reason: "parsing stopped at an invalid quote: Unterminated quoted field" }
      ])
    })
  )

  it.effect("reports the lines that are not UTF-8", () =>
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
      what: "good rows",
      content: `\uFEFF${header}1,"Les\r\nMisérables",Victor Hugo,,,CLASSICS\r\n\n2,"""😀""",B,,,HORROR\r3,C,D,-1,,HORROR`
    },
    { what: "bad rows", content: `${header}1,A,B,,,\n\r\n1,"A\n",B,,,HORROR\r2,A,B,,,COOKING\n1,A,B,,,HORROR\n` },
    // in any other place, a byte order mark is a character
    { what: "two concatenated files", content: `\uFEFF${header}1,A,B,,,HORROR\n\uFEFF2,A,B,,,HORROR\n` },
    { what: "an unterminated quote", content: `${header}x,A,B,,,HORROR\n1,"A,B,,,HORROR\n2,"A"\n\n3,A` },
    { what: "a broken quote", content: `${header}x,A,B,,,HORROR\n1,"A"x,B,,,HORROR\ny,"A",B,,,HORROR\n"` },
    { what: "a broken quote in the header", content: `id,"title" ,authors\n1,A,B,,,HORROR\n` },
    {
      what: "bytes that are not UTF-8, after all of these",
      content: Buffer.from(`${header}x,"\n\r\n",B\r1,"A"x,B,,,HORROR\n"\r\ny,é`, "latin1")
    },
    { what: "an end in the middle of a character", content: new TextEncoder().encode(`${header}1,😀`).slice(0, -1) }
  ])("gives the same result for any size of chunks: $what", ({ content }) =>
    Effect.gen(function* () {
      const whole = yield* Effect.exit(read(content))
      for (const partSize of [1, 2, 3, 5, 16, 50]) {
        assert.deepStrictEqual(yield* Effect.exit(read(content, partSize)), whole)
      }
    })
  )

  it.effect("counts every kind of line break before a line that is not UTF-8", () =>
    Effect.gen(function* () {
      const content = Buffer.from(`${header}x,"\n\r\n",B\r1,"A"x,B,,,HORROR\n"\r\ny,é`, "latin1")
      assert.deepStrictEqual(yield* badLines(content), [
        { line: 2, reason: "expected 6 columns, got 3" },
        {
          line: 5,
          reason: "parsing stopped at an invalid quote: Expected a delimiter or line break after a closing quote"
        },
        { line: 7, reason: "bytes that are not UTF-8" }
      ])
    })
  )

  it.effect.each([`2,${"😀".repeat(512)},A,,,MYSTERY`, `2,👩‍👧 می‌خواهم,${"x".repeat(256)},,,MYSTERY`])(
    "accepts texts of the maximum length and joining characters: %s",
    (row) =>
      Effect.gen(function* () {
        assert.strictEqual((yield* read(`${header}${row}\n`)).length, 1)
      })
  )

  it.effect.each([
    {
      what: "two byte order marks",
      found: "\uFEFF\uFEFFid,title,authors,year,isbn10,categories",
      shown: "\\ufeffid,title,authors,year,isbn10,categories"
    },
    {
      what: "a no-break space",
      found: "id,\u00A0title,authors,year,isbn10,categories",
      shown: "id,\\u00a0title,authors,year,isbn10,categories"
    }
  ])("shows $what in the header", ({ found, shown }) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* badLines(`${found}\n1,A Title,Ann Author,1999,,MYSTERY\n`), [
        { line: 1, reason: `"${shown}"` }
      ])
    })
  )

  it.effect("reports bad rows and rows that are not UTF-8 together", () =>
    Effect.gen(function* () {
      const rows = ["x,T,A,,,MYSTERY", "2,T,A,,,NOPE", "3,Café,A,,,MYSTERY", "4,Café,A,,,MYSTERY", "y,T,A,,,MYSTERY"]
      const error = yield* Effect.flip(read(Buffer.from(`${header}${rows.join("\n")}\n`, "latin1")))
      assert.strictEqual(error.reason, "the file is not UTF-8, and 5 lines are invalid")
      assert.deepStrictEqual(error.badLines, [
        { line: 2, reason: `${id}"x"` },
        { line: 3, reason: `${known}"NOPE"` },
        { line: 4, reason: "bytes that are not UTF-8" },
        { line: 5, reason: "bytes that are not UTF-8" },
        { line: 6, reason: `${id}"y"` }
      ])
    })
  )

  it.effect("accepts authors that are separated by semicolons, with a warning", () =>
    Effect.gen(function* () {
      const rows = "1,A Title,Ann A; Bob B,1999,,MYSTERY\n"
      const { bookCount, warningCount, warnings } = yield* CatalogFile.read(file, () => Effect.void).pipe(
        Effect.provide(OneFile.layer(new TextEncoder().encode(header + rows)))
      )
      assert.strictEqual(bookCount, 1)
      assert.strictEqual(warningCount, 1)
      assert.deepStrictEqual(warnings, [
        { line: 2, reason: 'authors: names are separated by commas, got "Ann A; Bob B"' }
      ])
    })
  )

  it.effect("limits the size of the report, and counts all bad lines", () =>
    Effect.gen(function* () {
      const row = `${"x".repeat(200)},A,B,,,HORROR\n`
      const { badLines, reason } = yield* Effect.flip(read(header + row.repeat(200_000)))
      assert.match(reason, /^200000 lines are invalid, of which the first \d{5} are listed$/)
      assert.isBelow(
        badLines.reduce((sum, { reason }) => sum + reason.length, 0),
        17_000_000
      )
    })
  )

  it.effect.each([
    { what: "no bytes", content: "", reason: "the file is empty" },
    { what: "no books", content: header, reason: "it contains no books" },
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
  ])("rejects a file with $what", ({ content, reason }) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* message(content), `CATALOG_FILE="books.csv": expected a catalogue, but ${reason}`)
    })
  )

  it.effect("rejects a missing file", () =>
    Effect.gen(function* () {
      const notFound = PlatformError.systemError({ _tag: "NotFound", module: "FileSystem", method: "stat" })
      const error = yield* CatalogFile.read({ ...file, path: "nope.csv" }, () => Effect.void).pipe(
        Effect.provide(FileSystem.layerNoop({ stat: () => Effect.fail(notFound) })),
        Effect.flip
      )
      assert.strictEqual(error.message, 'CATALOG_FILE="nope.csv": expected a catalogue, but there is no such file')
    })
  )
})
