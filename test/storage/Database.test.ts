import { assert, it } from "@effect/vitest"
import { Array as Arr, Cause, Deferred, Effect, Exit, Fiber, Layer, Metric, type Scope, Stream, Tracer } from "effect"
import { SqlClient } from "effect/sql"

import { Database, DatabaseUnavailable } from "../../src/layers/sql/Database.ts"
import type { Migration } from "../../src/layers/sql/Migrations.ts"
import * as Spans from "../layers/telemetry/Spans.ts"
import { connect, describeStorage, type Provided } from "./StorageTest.ts"

const createNumbers: Migration = {
  id: 1,
  name: "create_numbers",
  run: Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`CREATE TABLE numbers (id INTEGER PRIMARY KEY, value BIGINT NOT NULL, note TEXT)`
  )
}

const insert = (id: number, value: number, note: string | null = null) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO numbers ${sql.insert({ id, value, note })}`)

const values = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(sql<{ readonly value: number }>`SELECT value FROM numbers ORDER BY id`, (rows) =>
    rows.map(({ value }) => value)
  )
)

describeStorage("Database", ({ fresh, hasNotifications, system }) => {
  const test = <E>(title: string, effect: Effect.Effect<void, E, Provided | Scope.Scope>) =>
    it.live(title, () =>
      Effect.scoped(
        Effect.gen(function* () {
          const layer = connect(yield* fresh, [createNumbers])
          yield* Effect.provide(effect, layer)
        })
      )
    )

  test(
    "reads what was written, with numbers for BIGINT and counts",
    Effect.gen(function* () {
      const { run } = yield* Database
      const sql = yield* SqlClient.SqlClient
      yield* run("insert", insert(1, 2 ** 53 - 1, "it's ünïcode"))
      assert.deepStrictEqual(yield* run("select", sql`SELECT id, value, note FROM numbers`), [
        { id: 1, value: 2 ** 53 - 1, note: "it's ünïcode" }
      ])
      assert.deepStrictEqual(yield* run("count", sql`SELECT COUNT(*) AS count FROM numbers`), [{ count: 1 }])
    })
  )

  it.live("has spans of statements only in traces that are recorded, without values", () => {
    const { spans, tracer } = Spans.recorder()
    const traced = Effect.gen(function* () {
      const { run, transaction } = yield* Database
      yield* run("select", values)
      yield* transaction("insert", insert(1, 1))
      // nor the migrations have any
      assert.deepStrictEqual(spans, [])
      yield* Effect.withSpan(transaction("insert", insert(2, 31_337)), "call")
      const call = spans[0]!
      assert.strictEqual(call.name, "call")
      assert.isTrue(spans.some(({ attributes }) => attributes.has("db.query.text")))
      for (const { attributes, traceId } of spans) {
        assert.strictEqual(traceId, call.traceId)
        assert.notInclude(JSON.stringify([...attributes]), "31337")
      }
    })
    return Effect.scoped(
      Effect.flatMap(fresh, (url) =>
        Effect.provideService(Effect.provide(traced, connect(url, [createNumbers])), Tracer.Tracer, tracer)
      )
    )
  })

  test(
    "commits a transaction, and rolls it back when it fails",
    Effect.gen(function* () {
      const { run, transaction } = yield* Database
      yield* transaction("insert", Effect.andThen(insert(1, 1), insert(2, 2)))
      const failed = yield* Effect.exit(transaction("insert", Effect.andThen(insert(3, 3), Effect.fail("no"))))
      assert.deepStrictEqual(failed, Exit.fail("no"))
      assert.deepStrictEqual(yield* run("select", values), [1, 2])
    })
  )

  test(
    "rolls an interrupted transaction back, and works on",
    Effect.gen(function* () {
      const { run, transaction } = yield* Database
      const inserted = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        transaction(
          "insert",
          insert(1, 1).pipe(Effect.andThen(Deferred.succeed(inserted, undefined)), Effect.andThen(Effect.never))
        )
      )
      yield* Deferred.await(inserted)
      yield* Fiber.interrupt(fiber)
      yield* transaction("insert", insert(2, 2))
      assert.deepStrictEqual(yield* run("select", values), [2])
    })
  )

  test(
    "runs concurrent transactions without mixing them",
    Effect.gen(function* () {
      const { run, transaction } = yield* Database
      const sql = yield* SqlClient.SqlClient
      yield* run("insert", insert(1, 0))
      const increment = transaction("increment", sql`UPDATE numbers SET value = value + 1 WHERE id = 1`)
      yield* Effect.all(
        Array.from({ length: 50 }, () => increment),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(yield* run("select", values), [50])
    })
  )

  test(
    "reports a wrong statement as a defect",
    Effect.gen(function* () {
      const { isAvailable, run } = yield* Database
      const sql = yield* SqlClient.SqlClient
      const exit = yield* Effect.exit(run("wrong", sql`SELECT nothing FROM nowhere`))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
      assert.isTrue(isAvailable())
    })
  )

  test(
    "ends an operation after its time limit, and stays available",
    Effect.gen(function* () {
      const { isAvailable, run } = yield* Database
      const error = yield* Effect.flip(run("endless", Effect.never, { timeout: "20 millis" }))
      assert.instanceOf(error, DatabaseUnavailable)
      assert.strictEqual(error.reason, "no answer within 20 ms")
      assert.deepStrictEqual(yield* run("select", values), [])
      assert.isTrue(isAvailable())
    })
  )

  it.live("measures operations by their names and how they ended", () => {
    const measured = Effect.gen(function* () {
      const { run } = yield* Database
      yield* run("select", values)
      yield* run("select", values)
      yield* Effect.flip(run("refuse", Effect.fail("no")))
      yield* Effect.flip(run("endless", Effect.never, { timeout: "20 millis" }))
      const started = yield* Deferred.make<void>()
      const endless = Effect.andThen(Deferred.succeed(started, undefined), Effect.never)
      const fiber = yield* Effect.forkChild(run("endless", endless))
      yield* Deferred.await(started)
      yield* Fiber.interrupt(fiber)
      yield* run("insert", insert(1, 1))
      yield* Effect.exit(run("insert", insert(1, 1)))

      const durations = (yield* Metric.snapshot).flatMap(({ attributes, id, state }) => {
        if (id !== "db.client.operation.duration" || !("buckets" in state)) return []
        const labels: Readonly<Record<string, string>> = attributes ?? {}
        assert.strictEqual(labels["unit"], "s")
        assert.strictEqual(labels["db.system.name"], system)
        return { name: `${labels["db.operation.name"]} ${labels["error.type"] ?? "ok"}`, ...state }
      })
      const counts = durations.map(({ count, name }) => `${name}: ${count}`)
      assert.deepStrictEqual(counts.toSorted(), [
        "endless cancelled: 1",
        "endless timeout: 1",
        `insert ${system === "sqlite" ? "ConstraintError" : "UniqueViolation"}: 1`,
        "insert ok: 1",
        "refuse ok: 1",
        "select ok: 2"
      ])
      const timeout = durations.find(({ name }) => name === "endless timeout")!
      // in seconds; a timer may be early by less than a millisecond
      assert.isAtLeast(timeout.max, 0.019)
      assert.isBelow(timeout.max, 10)
    })
    return Effect.scoped(
      Effect.flatMap(fresh, (url) =>
        Effect.provideService(Effect.provide(measured, connect(url, [createNumbers])), Metric.MetricRegistry, new Map())
      )
    )
  })

  test(
    "streams rows, also while other statements run",
    Effect.gen(function* () {
      const { run } = yield* Database
      const sql = yield* SqlClient.SqlClient
      const rows = Array.from({ length: 5_000 }, (_, id) => ({ id, value: id, note: null }))
      for (const chunk of Arr.chunksOf(rows, 1_000)) {
        yield* run("insert", sql`INSERT INTO numbers ${sql.insert(chunk)}`)
      }
      const sum = yield* run(
        "stream",
        sql<{ readonly value: number }>`SELECT value FROM numbers ORDER BY id`.stream.pipe(
          Stream.mapEffect(({ value }) =>
            value % 1_000 === 0 ? Effect.as(run("insert", insert(value + 5_000, 0)), value) : Effect.succeed(value)
          ),
          Stream.runFold(
            () => 0,
            (sum, value) => sum + value
          )
        )
      )
      assert.strictEqual(sum, (5_000 * 4_999) / 2)
    })
  )

  it.live("keeps what was committed", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        yield* Effect.provide(insert(1, 7), connect(url, [createNumbers]))
        assert.deepStrictEqual(yield* Effect.provide(values, connect(url, [createNumbers])), [7])
      })
    )
  )

  it.live("runs each migration once, when several processes start together", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        const addRow: Migration = { id: 2, name: "add_row", run: insert(1, 1) }
        const start = Effect.scoped(Layer.build(connect(url, [createNumbers, addRow])))
        yield* Effect.all(
          Array.from({ length: 4 }, () => start),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(yield* Effect.provide(values, connect(url, [createNumbers, addRow])), [1])
      })
    )
  )

  it.live("rolls a migration back that fails", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        const bad: Migration = {
          id: 2,
          name: "bad",
          run: Effect.andThen(
            insert(1, 1),
            Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT nothing FROM nowhere`)
          )
        }
        const error = yield* Effect.flip(Effect.scoped(Layer.build(connect(url, [createNumbers, bad]))))
        assert.match(error.message, /^The schema cannot be migrated: .*"2_bad" failed/)
        assert.deepStrictEqual(yield* Effect.provide(values, connect(url, [createNumbers])), [])
      })
    )
  )

  it.live("refuses a schema that is too new for the program, and accepts one that still supports it", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const url = yield* fresh
        const expand: Migration = { id: 2, name: "expand", run: Effect.void }
        const contract: Migration = { id: 3, name: "contract", run: Effect.void, oldestProgram: 2 }
        const start = (...migrations: ReadonlyArray<Migration>) => Effect.scoped(Layer.build(connect(url, migrations)))
        yield* start(createNumbers, expand)
        yield* start(createNumbers)
        yield* start(createNumbers, expand, contract)
        yield* start(createNumbers, expand)
        const error = yield* Effect.flip(start(createNumbers))
        assert.strictEqual(
          error.message,
          "The database has migration 3, which needs a program with migration 2 or a later one; this one ends with migration 1"
        )
      })
    )
  )

  if (hasNotifications) {
    test(
      "notifies other connections",
      Effect.gen(function* () {
        const { listen, notify, transaction } = yield* Database
        const listening = yield* Deferred.make<void>()
        const fiber = yield* listen("changes").pipe(
          Stream.tap(() => Deferred.succeed(listening, undefined)),
          Stream.take(2),
          Stream.runDrain,
          Effect.forkChild
        )
        yield* Deferred.await(listening)
        yield* transaction("notify", notify("changes"))
        yield* Fiber.join(fiber)
      })
    )
  }
})
