import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"

import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Array as Arr, Clock, Console, Duration, Effect, Exit, Fiber, Layer, type Scope } from "effect"
import { SqlClient } from "effect/sql"

import { Readers } from "../../src/domain/Readers.ts"
import { Database } from "../../src/layers/sql/Database.ts"
import { toRow } from "../../src/recommendations/catalog/bookRow.ts"
import { importRatings } from "../../src/recommendations/readers/importRatings.ts"
import * as SqlReaders from "../../src/recommendations/readers/SqlReaders.ts"
import { book } from "../domain/Books.ts"
import * as Logs from "../layers/telemetry/Logs.ts"
import { connect, describeStorage } from "./StorageTest.ts"

/** A file with that content. */
const fileOf = (content: string | Uint8Array) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(path.join(tmpdir(), "ratings-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    ),
    (folder) => {
      const file = path.join(folder, "ratings.csv")
      writeFileSync(file, content)
      return file
    }
  )

/** Imports a file, and adds what it prints on stderr to `lines`. */
const importFile = (file: string, lines: Array<string> = [], isStrict = false) =>
  importRatings(file, { isStrict }).pipe(
    Effect.provideService(Console.Console, {
      ...globalThis.console,
      error: (line: unknown) => void lines.push(String(line))
    })
  )

const importText = (content: string | Uint8Array, lines?: Array<string>, isStrict?: boolean) =>
  Effect.flatMap(fileOf(content), (file) => importFile(file, lines, isStrict))

/** The ratings of a reader that count, by book. */
const ratingsOf = (userId: number) =>
  Effect.gen(function* () {
    const { list } = yield* Readers
    const { feedback } = yield* list({
      userId,
      pageSize: 1000,
      pageToken: "",
      currentOnly: true,
      bookIds: []
    })
    return Object.fromEntries(feedback.map(({ bookId, rating }) => [bookId, rating]))
  })

const countOf = (table: string) =>
  Effect.gen(function* () {
    const { run } = yield* Database
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* run("count", sql<{ readonly count: number }>`SELECT COUNT(*) AS count FROM ${sql(table)}`)
    return row?.count
  })

const nothing = { recorded: 0, duplicates: 0, dropped: 0, invalid: 0, ofUnknownBooks: 0, unknownBooks: 0 }

describeStorage("importRatings", ({ fresh }) => {
  type Services = Layer.Success<ReturnType<typeof replica>> | Scope.Scope
  const replica = (url: Parameters<typeof connect>[0]) =>
    Layer.mergeAll(
      NodeServices.layer,
      SqlReaders.layer({
        refresh: Duration.hours(1),
        historyTimeout: Duration.seconds(10),
        impressionRetention: Duration.days(90)
      }).pipe(Layer.provideMerge(connect(url)))
    )

  /** With books 1 to 100. */
  const test = <E>(title: string, effect: Effect.Effect<void, E, Services>) =>
    it.live(title, () =>
      Effect.scoped(
        Effect.gen(function* () {
          const addBooks = Effect.gen(function* () {
            const { run } = yield* Database
            const sql = yield* SqlClient.SqlClient
            yield* run(
              "books",
              sql`INSERT INTO books ${sql.insert(Arr.makeBy(100, (index) => toRow(book(index + 1), 1)))}`
            )
          })
          yield* Effect.provide(Effect.andThen(addBooks, effect), replica(yield* fresh))
        })
      )
    )

  test(
    "imports ratings, of which the last row of a reader and a book counts without times",
    Effect.gen(function* () {
      const summary = yield* importText("user_id,book_id,rating\n1,1,5\r\n1,2,4\n2,1,1\n\n1,1,3\n")
      assert.deepStrictEqual(summary, { ...nothing, rows: 4, recorded: 4 })
      assert.deepStrictEqual(yield* ratingsOf(1), { 1: 3, 2: 4 })
      assert.deepStrictEqual(yield* ratingsOf(2), { 1: 1 })
    })
  )

  test(
    "lets the latest time count",
    Effect.gen(function* () {
      const summary = yield* importText(
        "\uFEFFuser_id,book_id,rating,happened_at\n1,1,5,2026-01-31\n1,1,4,2026-01-30T23:59:59Z\n1,1,3,\n1,2,2,2026-01-31\n"
      )
      assert.deepStrictEqual(summary, { ...nothing, rows: 4, recorded: 4 })
      assert.deepStrictEqual(yield* ratingsOf(1), { 1: 5, 2: 2 })
    })
  )

  test(
    "names ratings of the future by the database's clock",
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const ahead: Clock.Clock = Object.assign(Object.create(clock), {
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + 3_600_000,
        currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + 3_600_000)
      })
      const lines: Array<string> = []
      const future = new Date(Date.now() + 1_800_000)
      const summary = yield* importText(
        `user_id,book_id,rating,happened_at\n1,1,5,\n1,2,4,${future.toISOString()}\n`,
        lines
      ).pipe(Effect.provideService(Clock.Clock, ahead))
      assert.deepStrictEqual(summary, { ...nothing, rows: 2, recorded: 1, invalid: 1 })
      assert.deepStrictEqual(lines, [
        `line 3: happened_at: expected a time from 1970 to a minute from now, got ${future.getTime()}`
      ])
    })
  )

  test(
    "skips bad rows and unknown books, and prints their lines",
    Effect.gen(function* () {
      const lines: Array<string> = []
      const content = Buffer.concat([
        Buffer.from("user_id,book_id,rating\n1,1,5\n1,101,5\n1,2,6\n"),
        // "é" in Latin-1
        Buffer.from([0x31, 0x2c, 0xe9, 0x2c, 0x31, 0x0a]),
        Buffer.from(`1,101,4\n1000000000,102,3\n1000000000,3,3\n1.0,3,3\n1,3\n1,4,${"4".repeat(5000)}\n1,5,2`)
      ])
      const summary = yield* importText(content, lines)
      assert.deepStrictEqual(summary, {
        ...nothing,
        rows: 11,
        recorded: 2,
        invalid: 6,
        ofUnknownBooks: 3,
        unknownBooks: 2
      })
      assert.deepStrictEqual(lines, [
        "line 3: book_id: expected a book that is or was in the catalogue, got 101",
        'line 4: rating: expected a whole number from 1 to 5, got "6"',
        "line 5: bytes that are not UTF-8",
        "line 6: book_id: expected a book that is or was in the catalogue, got 101",
        "line 7: user_id: expected an id that CreateReader has given, got 1000000000; " +
          "book_id: expected a book that is or was in the catalogue, got 102",
        "line 8: user_id: expected an id that CreateReader has given, got 1000000000",
        'line 9: user_id: expected a whole number from 1 to 2147483647, got "1.0"',
        "line 10: expected 3 columns, got 2",
        "line 11: expected a row of at most 4096 bytes"
      ])
      assert.deepStrictEqual(yield* ratingsOf(1), { 1: 5, 5: 2 })
    })
  )

  test(
    "imports nothing of a file with bad rows if it is strict",
    Effect.gen(function* () {
      const lines: Array<string> = []
      const file = yield* fileOf("user_id,book_id,rating\n1,1,5\n1,101,5\n1,2,6\n")
      const { message } = yield* Effect.flip(importFile(file, lines, true))
      assert.strictEqual(
        message,
        `FILE="${file}": expected a file of valid ratings of known books, but 2 rows are not; nothing was imported`
      )
      assert.strictEqual(lines.length, 2)
      assert.strictEqual(yield* countOf("feedback"), 0)
      const summary = yield* importText("user_id,book_id,rating\n1,1,5\n", lines, true)
      assert.deepStrictEqual(summary, { ...nothing, rows: 1, recorded: 1 })
    })
  )

  test(
    "names the problem of a file that it cannot read",
    Effect.gen(function* () {
      const problemOf = (content: string | Uint8Array) =>
        Effect.map(Effect.flip(importText(content)), ({ message }) => message.replace(/^FILE=.*, but /, ""))
      const header = "its header is not user_id,book_id,rating or user_id,book_id,rating,happened_at; line 1: "
      assert.strictEqual(yield* problemOf(""), "the file is empty")
      assert.strictEqual(yield* problemOf("user,book,rating\n1,1,5\n"), `${header}"user,book,rating"`)
      assert.strictEqual(yield* problemOf(Uint8Array.of(0xe9, 0x0a)), `${header}a row that cannot be read`)
      assert.match(yield* problemOf('user_id,book_id,rating\n1,1,5\n1,"2,5\n1,3,5\n'), /^line 3 has an invalid quote/)
      // the rows before it are imported
      assert.deepStrictEqual(yield* ratingsOf(1), { 1: 5 })
      const missing = yield* Effect.flip(importFile("/nonexistent/ratings.csv"))
      assert.match(missing.message, /but there is no such file$/)
      const folder = yield* Effect.flip(importFile(tmpdir()))
      assert.match(folder.message, /but it is not a regular file$/)
    })
  )

  test(
    "says how many rows were processed before it ended early",
    Effect.gen(function* () {
      const logs = Logs.recorder()
      const row = (index: number) => `1,1,${1 + (index % 5)}\n`
      const text = `user_id,book_id,rating\n${Array.from({ length: 3_000 }, (_, index) => row(index)).join("")}1,"2,5\n1,3,5\n`
      yield* Effect.flip(Effect.provide(importText(text), logs.layer))
      assert.deepStrictEqual(
        logs.lines().map(({ annotations, message }) => [message, annotations["processedRows"]]),
        [["Importing ratings ended early", yield* countOf("feedback")]]
      )
    })
  )

  test(
    "changes nothing the second time, and ends the same after an import that was interrupted",
    Effect.gen(function* () {
      const rows = Array.from({ length: 20_000 }, (_, index) =>
        [1 + (index % 300), 1 + ((index * 7) % 100), 1 + (index % 5)].join(",")
      )
      const file = yield* fileOf(`user_id,book_id,rating\n${rows.join("\n")}\n`)
      const killed = yield* Effect.forkChild(importFile(file))
      yield* Effect.repeat(countOf("feedback"), { until: (count) => count !== 0 })
      yield* Fiber.interrupt(killed)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(killed)))
      const before = yield* countOf("feedback")
      assert.isBelow(before!, 20_000)
      const summary = yield* importFile(file)
      assert.deepStrictEqual(summary, { ...nothing, rows: 20_000, recorded: 20_000 - before!, duplicates: before! })
      const expected = Object.fromEntries(
        rows
          .map((row) => row.split(",").map(Number))
          .flatMap(([userId, bookId, rating]) => (userId === 7 ? [[bookId, rating]] : []))
      ) as Record<string, number>
      assert.deepStrictEqual(yield* ratingsOf(7), expected)
      assert.deepStrictEqual(yield* importFile(file), { ...nothing, rows: 20_000, duplicates: 20_000 })
      assert.strictEqual(yield* countOf("feedback"), 20_000)
    })
  )

  test(
    "drops ratings of readers who have been forgotten",
    Effect.gen(function* () {
      const { forget } = yield* Readers
      yield* forget(1)
      assert.deepStrictEqual(yield* importText("user_id,book_id,rating\n1,1,5\n2,1,5\n"), {
        ...nothing,
        rows: 2,
        recorded: 1,
        dropped: 1
      })
    })
  )
})
