import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"

import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Queue, type Scope } from "effect"
import { SqlClient } from "effect/sql"

import { Database, DatabaseUnavailable } from "../../../src/layers/sql/Database.ts"
import { recordLines } from "../../storage/RecordedLines.ts"
import { connect, sqlite } from "../../storage/StorageTest.ts"

const createNotes = {
  id: 1,
  name: "create_notes",
  run: Effect.flatMap(SqlClient.SqlClient, (sql) => sql`CREATE TABLE notes (note TEXT NOT NULL)`)
}

const insert = (note: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO notes ${sql.insert({ note })}`)

const count = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT COUNT(*) AS count FROM notes`)

const fresh = Effect.map(sqlite.fresh, (url) => {
  assert(url._tag === "Sqlite")
  return url
})

/** Gives a test an open database. */
const opened =
  (test: (filename: string) => Effect.Effect<void, unknown, Database | SqlClient.SqlClient | Scope.Scope>) => () =>
    Effect.scoped(
      Effect.flatMap(fresh, (url) => Effect.provide(Effect.scoped(test(url.filename)), connect(url, [createNotes])))
    )

/** Why an operation was refused. */
const reasonOf = <A, R>(effect: Effect.Effect<A, unknown, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, DatabaseUnavailable)
    return error.reason
  })

describe("a file of SQLite", () => {
  it.live("that cannot be opened is tried again, with one warning", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        const { layer, lines } = recordLines()
        mkdirSync(url.filename)
        const counted = yield* Effect.forkChild(
          Effect.provide(count, connect(url, [createNotes]).pipe(Layer.provideMerge(layer)))
        )
        assert.deepStrictEqual(yield* Queue.take(lines), {
          message: "Database unavailable, trying again",
          reason: "the file cannot be opened (unable to open database file)"
        })
        rmSync(url.filename, { recursive: true })
        assert.deepStrictEqual(yield* Fiber.join(counted), [{ count: 0 }])
        assert.strictEqual(yield* Queue.size(lines), 0)
      })
    )
  )

  it.live("that is no database is left as it is", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        const { layer, lines } = recordLines()
        const text = "This is a text, and not a database of SQLite.".repeat(100)
        writeFileSync(url.filename, text)
        yield* Effect.forkScoped(Layer.build(connect(url, [createNotes]).pipe(Layer.provideMerge(layer))))
        assert.deepStrictEqual(yield* Queue.take(lines), {
          message: "Database unavailable, trying again",
          reason: "the file is not a SQLite database (file is not a database)"
        })
        assert.strictEqual(readFileSync(url.filename, "utf8"), text)
      })
    )
  )

  it.live(
    "that another process has locked fails writes, which work afterwards",
    opened((filename) =>
      Effect.gen(function* () {
        const { isAvailable, run, transaction } = yield* Database
        const other = new DatabaseSync(filename)
        other.exec("BEGIN IMMEDIATE")
        assert.strictEqual(
          yield* reasonOf(transaction("insert", insert("a"))),
          "the file is locked by another process (database is locked)"
        )
        assert.deepStrictEqual(yield* run("count", count), [{ count: 0 }])
        other.exec("ROLLBACK")
        other.close()
        yield* transaction("insert", insert("b"))
        assert.deepStrictEqual(yield* run("count", count), [{ count: 1 }])
        assert.isTrue(isAvailable())
      })
    )
  )

  it.live(
    "that another process locks for a while is written afterwards",
    opened((filename) =>
      Effect.gen(function* () {
        const { run, transaction } = yield* Database
        const other = new DatabaseSync(filename)
        other.exec("BEGIN IMMEDIATE")
        const written = yield* Effect.forkChild(transaction("insert", insert("a")), { startImmediately: true })
        // the transaction of the other process takes longer than SQLite itself waits, which is 10 ms
        yield* Effect.sleep("100 millis")
        other.exec("COMMIT")
        other.close()
        yield* Fiber.join(written)
        assert.deepStrictEqual(yield* run("count", count), [{ count: 1 }])
      })
    )
  )

  it.live(
    "is read while a transaction is open",
    opened(() =>
      Effect.gen(function* () {
        const { run, transaction } = yield* Database
        const inserted = yield* Deferred.make<void>()
        const read = yield* Deferred.make<void>()
        const write = Effect.gen(function* () {
          yield* insert("a")
          yield* Deferred.succeed(inserted, undefined)
          yield* Deferred.await(read)
        })
        const written = yield* Effect.forkChild(transaction("insert", write))
        yield* Deferred.await(inserted)
        // as soon as there is a second connection
        const rows = yield* Effect.retry(run("count", count, { timeout: "200 millis" }), { times: 50 })
        assert.deepStrictEqual(rows, [{ count: 0 }])
        yield* Deferred.succeed(read, undefined)
        yield* Fiber.join(written)
        assert.deepStrictEqual(yield* run("count", count), [{ count: 1 }])
      })
    )
  )

  it.live(
    "can be read by its owner alone",
    opened((filename) =>
      Effect.sync(() => {
        for (const file of [filename, `${filename}-wal`]) assert.strictEqual(statSync(file).mode & 0o777, 0o600)
      })
    )
  )

  it.live(
    "on a full disk fails writes, and keeps what was committed",
    opened(() =>
      Effect.gen(function* () {
        const { run, transaction } = yield* Database
        const sql = yield* SqlClient.SqlClient
        const [pages] = yield* run("pages", sql<{ readonly page_count: number }>`PRAGMA page_count`)
        yield* run("limit", sql`PRAGMA max_page_count = ${sql.literal(String(pages!.page_count + 3))}`)
        yield* transaction("insert", insert("small"))
        assert.strictEqual(
          yield* reasonOf(transaction("insert", insert("x".repeat(100_000)))),
          "the disk is full (database or disk is full)"
        )
        assert.deepStrictEqual(yield* run("count", count), [{ count: 1 }])
        yield* transaction("insert", insert("small"))
        assert.deepStrictEqual(yield* run("count", count), [{ count: 2 }])
      })
    )
  )

  it.live(
    "that is corrupt fails what reads it, with the reason",
    opened((filename) =>
      Effect.gen(function* () {
        const { run } = yield* Database
        const sql = yield* SqlClient.SqlClient
        yield* run("insert", insert("x".repeat(20_000)))
        yield* run("checkpoint", sql`PRAGMA wal_checkpoint(TRUNCATE)`)
        const bytes = readFileSync(filename)
        bytes.fill(0xff, 4_096)
        writeFileSync(filename, bytes)
        // the other connection has cached no page of the table
        const reason = yield* reasonOf(
          Effect.provide(
            Effect.flatMap(Database, ({ run }) => run("select", sql`SELECT note FROM notes`)),
            connect({ _tag: "Sqlite", filename }, [])
          )
        )
        assert.match(reason, /^the file is corrupt \(database disk image is malformed\)$/)
      })
    )
  )

  it.live(
    "is in WAL mode, waits for the disk at each commit, and overwrites deleted data",
    opened(() =>
      Effect.gen(function* () {
        const { run } = yield* Database
        const sql = yield* SqlClient.SqlClient
        assert.deepStrictEqual(yield* run("mode", sql`PRAGMA journal_mode`), [{ journal_mode: "wal" }])
        assert.deepStrictEqual(yield* run("mode", sql`PRAGMA synchronous`), [{ synchronous: 2 }])
        assert.deepStrictEqual(yield* run("mode", sql`PRAGMA secure_delete`), [{ secure_delete: 1 }])
      })
    )
  )

  it.live(
    "runs no statement inside of a transaction of another fiber",
    opened(() =>
      Effect.gen(function* () {
        const { run, transaction } = yield* Database
        const rolledBack = transaction(
          "roll back",
          Effect.andThen(Effect.repeat(insert("rolled back"), { times: 3 }), Effect.fail("rolled back"))
        )
        yield* Effect.forEach(
          Array.from({ length: 300 }, (_, index) => index),
          (index) => Effect.exit(index % 10 === 0 ? rolledBack : Effect.asVoid(run("insert", insert("kept")))),
          { concurrency: "unbounded" }
        )
        const sql = yield* SqlClient.SqlClient
        assert.deepStrictEqual(yield* run("count", sql`SELECT note, COUNT(*) AS count FROM notes GROUP BY note`), [
          { note: "kept", count: 270 }
        ])
      })
    )
  )

  it.live(
    "does not run statements that were interrupted while many others were before them",
    opened(() =>
      Effect.gen(function* () {
        const { run } = yield* Database
        const others = yield* Effect.forEach(
          Array.from({ length: 100 }),
          () => Effect.forkChild(run("insert", insert("kept")), { startImmediately: true }),
          { concurrency: 1 }
        )
        const interrupted = yield* Effect.forkChild(run("insert", insert("interrupted")), { startImmediately: true })
        yield* Fiber.interrupt(interrupted)
        yield* Fiber.joinAll(others)
        assert.deepStrictEqual(yield* run("count", count), [{ count: 100 }])
      })
    )
  )

  it.live("is closed with its scope, without a log beside it", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        yield* Effect.provide(insert("a"), connect(url, [createNotes]))
        assert.throws(() => readFileSync(`${url.filename}-wal`), /ENOENT/)
      })
    )
  )
})

describe("a database in memory", () => {
  it.live("streams and writes on one connection", () =>
    Effect.provide(
      Effect.gen(function* () {
        const { run } = yield* Database
        yield* run("insert", insert("a"))
        assert.deepStrictEqual(yield* run("count", count), [{ count: 1 }])
      }),
      connect({ _tag: "Sqlite", filename: ":memory:" }, [createNotes])
    )
  )
})
