import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Redacted, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { afterAll, beforeAll } from "vitest"

import { Database, DatabaseUnavailable } from "../../src/layers/sql/Database.ts"
import type { PostgresUrl } from "../../src/layers/sql/DatabaseUrl.ts"
import { Postgres } from "./Postgres.ts"
import { recordLines } from "./RecordedLines.ts"
import { connect, postgresUrl } from "./StorageTest.ts"

const createNotes = {
  id: 1,
  name: "create_notes",
  run: Effect.flatMap(SqlClient.SqlClient, (sql) => sql`CREATE TABLE notes (note TEXT NOT NULL)`)
}

const insert = (note: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO notes ${sql.insert({ note })}`)

const count = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(sql<{ readonly count: number }>`SELECT COUNT(*) AS count FROM notes`, ([row]) => row!.count)
)

/** Why an operation was refused. */
const reasonOf = <A, R>(effect: Effect.Effect<A, unknown, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, DatabaseUnavailable)
    return error.reason
  })

/** Waits until the database can be reached, or cannot. */
const becomes = (available: boolean) =>
  Effect.flatMap(Database, ({ availability }) =>
    Stream.runDrain(Stream.takeUntil(availability, (isAvailable) => isAvailable === available))
  )

describe("PostgreSQL", () => {
  let server: Postgres
  let url: PostgresUrl
  beforeAll(async () => {
    server = await Postgres.start()
    url = postgresUrl(server.port, "postgres")
  })
  afterAll(() => server.remove())

  it.live("that is down at the start is waited for, with one warning", () =>
    Effect.scoped(
      Effect.gen(function* () {
        yield* Effect.promise(() => server.stop())
        const { layer, lines } = recordLines()
        const counted = yield* Effect.forkChild(
          Effect.provide(count, connect(url, [createNotes]).pipe(Layer.provideMerge(layer)))
        )
        const { message, reason } = yield* Queue.take(lines)
        assert.strictEqual(message, "Database unavailable, trying again")
        assert.match(String(reason), /^the connection failed \(.*ECONNREFUSED/)
        yield* Effect.promise(() => server.restart())
        assert.strictEqual(yield* Fiber.join(counted), 0)
        assert.strictEqual(yield* Queue.size(lines), 0)
      })
    )
  )

  it.live("that is killed fails operations at once, and works again after its restart", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { layer, lines } = recordLines()
        yield* Effect.gen(function* () {
          const { isAvailable, run, transaction } = yield* Database
          yield* transaction("insert", insert("a"))
          const before = yield* run("count", count)
          // a transaction is open when the connection is lost
          const lost = yield* Effect.flip(
            transaction(
              "insert",
              Effect.andThen(
                insert("lost"),
                Effect.andThen(
                  Effect.promise(() => server.kill()),
                  insert("lost")
                )
              )
            )
          )
          assert.instanceOf(lost, DatabaseUnavailable)
          assert.isFalse(isAvailable())
          assert.strictEqual((yield* Queue.take(lines)).message, "Database unavailable")
          assert.match(yield* reasonOf(run("count", count)), /./)
          yield* Effect.promise(() => server.restart())
          yield* becomes(true)
          assert.strictEqual((yield* Queue.take(lines)).message, "Database available again")
          assert.strictEqual(yield* run("count", count), before)
          yield* transaction("insert", insert("b"))
          assert.strictEqual(yield* Queue.size(lines), 0)
        }).pipe(Effect.provide(connect(url, [createNotes]).pipe(Layer.provideMerge(layer))))
      })
    )
  )

  it.live("that does not answer fails operations after their time limit, and is then known to be down", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { isAvailable, run } = yield* Database
        yield* run("count", count)
        yield* Effect.acquireUseRelease(
          Effect.sync(() => server.signalAll("SIGSTOP")),
          () =>
            Effect.gen(function* () {
              assert.strictEqual(
                yield* reasonOf(run("count", count, { timeout: "100 millis" })),
                "no answer within 100 ms"
              )
              yield* becomes(false)
              assert.match(yield* reasonOf(run("count", count, { timeout: "1 minute" })), /^no answer within 2000 ms$/)
            }),
          () => Effect.sync(() => server.signalAll("SIGCONT"))
        )
        yield* becomes(true)
        assert.isTrue(isAvailable())
        assert.isAbove(yield* run("count", count), 0)
      }).pipe(Effect.provide(connect(url, [createNotes])))
    )
  )

  it.live.each([
    ["a wrong password", { password: Redacted.make("wr0ng") }, /^the user or the password is wrong \(/],
    ["an unknown user", { username: "nobody" }, /^the user or the password is wrong \(/],
    ["an unknown database", { database: "nothing" }, /^there is no such database \(/],
    ["too many connections", { username: "limited" }, /^the server has too many connections \(/]
  ] as ReadonlyArray<readonly [string, Partial<PostgresUrl>, RegExp]>)(
    "that refuses connections because of %s is tried again, with the reason and without the password",
    ([, wrong, expected]) =>
      Effect.scoped(
        Effect.gen(function* () {
          yield* Effect.provide(
            Effect.flatMap(SqlClient.SqlClient, (sql) =>
              sql.unsafe(
                `DO $$ BEGIN CREATE ROLE limited LOGIN PASSWORD '${Redacted.value(url.password!)}' CONNECTION LIMIT 0;
                 EXCEPTION WHEN duplicate_object THEN NULL; END $$`
              )
            ),
            connect(url, [])
          )
          const { layer, lines } = recordLines()
          yield* Effect.forkScoped(
            Layer.build(connect({ ...url, ...wrong }, [createNotes]).pipe(Layer.provideMerge(layer)))
          )
          const { message, reason } = yield* Queue.take(lines)
          assert.strictEqual(message, "Database unavailable, trying again")
          assert.match(String(reason), expected)
          assert.notInclude(String(reason), "wr0ng")
        })
      )
  )

  it.live("cancels the statement of an interrupted operation", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { run } = yield* Database
        const sql = yield* SqlClient.SqlClient
        yield* reasonOf(run("sleep", sql`SELECT pg_sleep(600)`, { timeout: "50 millis" }))
        const running = run(
          "activity",
          sql<{ readonly count: number }>`SELECT COUNT(*) AS count FROM pg_stat_activity
            WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'`
        )
        yield* Effect.repeat(running, { until: ([row]) => row!.count === 0 })
      }).pipe(Effect.provide(connect(url, [createNotes])))
    )
  )

  it.live("limits the time of a transaction on the server, too", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { transaction } = yield* Database
        const sql = yield* SqlClient.SqlClient
        const limits = yield* transaction(
          "limits",
          sql`SELECT current_setting('statement_timeout') AS statement,
            current_setting('idle_in_transaction_session_timeout') AS idle`,
          { timeout: "7 seconds" }
        )
        assert.deepStrictEqual(limits, [{ statement: "7s", idle: "7s" }])
        const exit = yield* Effect.exit(sql`SELECT current_setting('statement_timeout') AS statement`)
        assert.deepStrictEqual(exit, Exit.succeed([{ statement: "0" }]))
      }).pipe(Effect.provide(connect(url, [createNotes])))
    )
  )

  it.live("repeats a transaction that the server aborts because of a deadlock", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { run, transaction } = yield* Database
        const sql = yield* SqlClient.SqlClient
        yield* run("clear", sql`DELETE FROM notes`)
        yield* transaction("insert", Effect.andThen(insert("a"), insert("b")))
        const both = [yield* Deferred.make<void>(), yield* Deferred.make<void>()] as const
        const update = (own: 0 | 1, first: string, second: string) =>
          transaction(
            "update",
            Effect.gen(function* () {
              yield* sql`UPDATE notes SET note = note WHERE note = ${first}`
              yield* Deferred.succeed(both[own], undefined)
              yield* Deferred.await(both[own === 0 ? 1 : 0])
              yield* sql`UPDATE notes SET note = note WHERE note = ${second}`
            })
          )
        yield* Effect.all([update(0, "a", "b"), update(1, "b", "a")], { concurrency: 2 })
      }).pipe(Effect.provide(connect(url, [createNotes])))
    )
  )
})
