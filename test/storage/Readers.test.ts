import { randomUUID } from "node:crypto"
import { readFileSync, statSync } from "node:fs"

import { assert, it } from "@effect/vitest"
import {
  Array as Arr,
  Clock,
  Context,
  Duration,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  Queue,
  Schedule,
  type Scope,
  Stream
} from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"

import type { FeedbackKind, ReceivedFeedback } from "../../src/domain/Feedback.ts"
import { type FeedbackQuery, Readers } from "../../src/domain/Readers.ts"
import { Database, DatabaseUnavailable, type Run } from "../../src/layers/sql/Database.ts"
import type { DatabaseUrl, SqliteUrl } from "../../src/layers/sql/DatabaseUrl.ts"
import { toRow } from "../../src/recommendations/catalog/bookRow.ts"
import * as retention from "../../src/recommendations/readers/retention.ts"
import * as SqlReaders from "../../src/recommendations/readers/SqlReaders.ts"
import { book } from "../domain/Books.ts"
import * as Logs from "../layers/telemetry/Logs.ts"
import { connect, describeStorage, type Provided } from "./StorageTest.ts"

/** Another replica would see changes in a file of SQLite only after `refresh`. */
const settings: SqlReaders.Settings = {
  refresh: Duration.hours(1),
  // long enough for a busy machine
  historyTimeout: Duration.seconds(10),
  impressionRetention: Duration.days(90)
}

/** A replica: its connection, and its readers. */
const replica = (url: DatabaseUrl, options: Partial<SqlReaders.Settings> = {}) =>
  SqlReaders.layer({ ...settings, ...options }).pipe(Layer.provideMerge(connect(url)))

/** A replica whose operations of the database are changed. */
const changedReplica = (
  url: DatabaseUrl,
  change: (database: Database["Service"]) => Partial<Database["Service"]>,
  options: Partial<SqlReaders.Settings> = {}
) =>
  SqlReaders.layer({ ...settings, ...options }).pipe(
    Layer.provideMerge(
      Layer.effect(
        Database,
        Effect.map(Database, (database) => Database.of({ ...database, ...change(database) }))
      )
    ),
    Layer.provideMerge(connect(url))
  )

/** Books 1 to 200, of which the first 100 are gone from the catalogue. */
const addBooks = Effect.gen(function* () {
  const { transaction } = yield* Database
  const sql = yield* SqlClient.SqlClient
  const books = Arr.makeBy(200, (index) => toRow(book(index + 1), index < 100 ? 1 : 2))
  yield* transaction("books", sql`INSERT INTO books ${sql.insert(books)}`)
})

const feedback = (
  userId: number,
  bookId: number,
  kind: FeedbackKind,
  fields: Partial<ReceivedFeedback> = {}
): ReceivedFeedback => ({
  feedbackId: randomUUID(),
  userId,
  bookId,
  kind,
  rating: 0,
  happenedAt: undefined,
  recommendationId: "",
  ...fields
})

const record = (...records: ReadonlyArray<ReceivedFeedback>) =>
  Effect.flatMap(Readers, (readers) => readers.record(records))

const list = (query: Partial<FeedbackQuery> & { readonly userId: number }) =>
  Effect.flatMap(Readers, (readers) =>
    readers.list({ pageSize: undefined, pageToken: "", currentOnly: false, bookIds: [], ...query })
  )

/** The books that are not recommended to a reader, in ascending order. */
const excluded = (userId: number) =>
  Effect.flatMap(Readers, (readers) =>
    Effect.map(readers.history(userId), ({ excluded, source }) => {
      assert.strictEqual(source, "current")
      return [...excluded].toSorted((one, other) => one - other)
    })
  )

/** The kinds of what counts now, by book. */
const currentOf = (userId: number) =>
  Effect.map(list({ userId, currentOnly: true }), ({ feedback }) =>
    Object.fromEntries(feedback.map(({ bookId, kind }) => [bookId, kind]))
  )

/** Violations of an error, or nothing. */
const violationsOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => (error as { readonly violations?: unknown }).violations)

const createReader = Effect.flatMap(Readers, (readers) => readers.create(randomUUID()))

const forget = (userId: number) => Effect.flatMap(Readers, (readers) => readers.forget(userId))

const rowsOf = (table: string, userId: number) =>
  Effect.gen(function* () {
    const { run } = yield* Database
    const sql = yield* SqlClient.SqlClient
    return yield* run("rows", sql`SELECT * FROM ${sql(table)} WHERE user_id = ${userId}`)
  })

describeStorage("SqlReaders", ({ fresh, system }) => {
  const test = <E>(title: string, effect: Effect.Effect<void, E, Provided | Readers | Scope.Scope>) =>
    it.live(title, () =>
      Effect.scoped(
        Effect.gen(function* () {
          yield* Effect.provide(Effect.andThen(addBooks, effect), replica(yield* fresh))
        })
      )
    )

  test(
    "counts recorded feedback and duplicates, of one call and of several",
    Effect.gen(function* () {
      const one = feedback(1, 1, "LIKE")
      const other = feedback(1, 2, "READ")
      assert.deepStrictEqual(yield* record(one, other, { ...one, kind: "DISLIKE" }), {
        recorded: 2,
        duplicates: 1,
        dropped: 0
      })
      const third = feedback(2, 1, "VIEW")
      assert.deepStrictEqual(yield* record({ ...other, feedbackId: other.feedbackId.toUpperCase() }, third), {
        recorded: 1,
        duplicates: 1,
        dropped: 0
      })
      assert.deepStrictEqual(yield* currentOf(1), { 1: "LIKE", 2: "READ" })
    })
  )

  test(
    "records the same feedback once that comes in many calls at the same time",
    Effect.gen(function* () {
      const records = Array.from({ length: 50 }, (_, index) => feedback(1 + (index % 5), 1 + index, "LIKE"))
      const counts = yield* Effect.forEach(
        Array.from({ length: 200 }, (_, index) => records[index % 50]!),
        (one) => record(one),
        { concurrency: "unbounded" }
      )
      const sum = (field: "recorded" | "duplicates") => counts.reduce((sum, count) => sum + count[field], 0)
      assert.deepStrictEqual([sum("recorded"), sum("duplicates")], [50, 150])
      assert.deepStrictEqual((yield* list({ userId: 1 })).feedback.length, 10)
    })
  )

  test(
    "records nothing of a call with unknown books and readers, and names them",
    Effect.gen(function* () {
      const bad = [
        feedback(1, 1, "LIKE"),
        feedback(1, 201, "LIKE"),
        feedback(1_000_000_000, 1, "LIKE"),
        feedback(2_147_483_647, 999, "LIKE")
      ]
      const unknownBook = "expected a book that is or was in the catalogue"
      const unknownReader = "expected an id that CreateReader has given"
      const [violations, good] = yield* Effect.all([violationsOf(record(...bad)), record(feedback(1, 2, "LIKE"))], {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(violations, [
        { field: "feedback[1].bookId", description: unknownBook },
        { field: "feedback[2].userId", description: unknownReader },
        { field: "feedback[3].userId", description: unknownReader },
        { field: "feedback[3].bookId", description: unknownBook }
      ])
      assert.strictEqual(good.recorded, 1)
      assert.deepStrictEqual(yield* currentOf(1), { 2: "LIKE" })
      assert.deepStrictEqual(yield* rowsOf("readers", 1_000_000_000), [])
      // together with what needs no database
      const fields = yield* violationsOf(
        record(feedback(0, 0, "LIKE"), feedback(1, 201, "RATING"), feedback(1_000_000_000, 1, "LIKE"))
      )
      assert.deepStrictEqual(
        (fields as ReadonlyArray<{ readonly field: string }>).map(({ field }) => field),
        ["feedback[0].userId", "feedback[0].bookId", "feedback[1].rating", "feedback[1].bookId", "feedback[2].userId"]
      )
    })
  )

  test(
    "keeps what was said when the book is only shown or opened",
    Effect.gen(function* () {
      yield* record(feedback(1, 1, "LIKE"))
      yield* record(feedback(1, 1, "VIEW"), feedback(1, 1, "IMPRESSION"), feedback(1, 2, "VIEW"))
      assert.deepStrictEqual(yield* currentOf(1), { 1: "LIKE" })
      assert.deepStrictEqual(yield* excluded(1), [1])
    })
  )

  test(
    "lets the latest feedback count, whenever it arrives",
    Effect.gen(function* () {
      const now = Date.now()
      yield* record(feedback(1, 1, "LIKE", { happenedAt: now - 1000 }))
      yield* record(feedback(1, 1, "DISLIKE", { happenedAt: now - 2000 }))
      assert.deepStrictEqual(yield* currentOf(1), { 1: "LIKE" })
      // at the same time, the one that arrives later
      yield* record(feedback(1, 1, "WANT_TO_READ", { happenedAt: now - 1000 }))
      assert.deepStrictEqual(yield* currentOf(1), { 1: "WANT_TO_READ" })
      yield* record(
        feedback(1, 2, "HIDE", { happenedAt: now - 1 }),
        feedback(1, 2, "READ", { happenedAt: now }),
        feedback(1, 2, "LIKE", { happenedAt: now - 2 })
      )
      yield* record(
        feedback(1, 3, "HIDE", { happenedAt: now }),
        feedback(1, 3, "RATING", { happenedAt: now, rating: 3 })
      )
      assert.deepStrictEqual(yield* currentOf(1), { 1: "WANT_TO_READ", 2: "READ", 3: "RATING" })
    })
  )

  test(
    "takes what happened now for later than what counts already, even if a clock of another replica is ahead",
    Effect.gen(function* () {
      yield* record(feedback(1, 1, "LIKE", { happenedAt: Date.now() + 5000 }))
      yield* record(feedback(1, 1, "RETRACT"))
      assert.deepStrictEqual(yield* currentOf(1), {})
      assert.deepStrictEqual(yield* excluded(1), [])
      // older feedback that arrives late does not bring it back
      yield* record(feedback(1, 1, "LIKE", { happenedAt: Date.now() - 5000 }))
      assert.deepStrictEqual(yield* currentOf(1), {})
      yield* record(feedback(1, 1, "READ"), feedback(1, 1, "LIKE"))
      assert.deepStrictEqual(yield* currentOf(1), { 1: "LIKE" })
      const times = (yield* list({ userId: 1 })).feedback.map(({ happenedAt }) => happenedAt)
      assert.strictEqual(new Set(times).size, 5)
    })
  )

  test(
    "refuses times in the future by the database's clock, if the clock of this replica is ahead",
    Effect.gen(function* () {
      const hour = 3_600_000
      const clock = yield* Clock.Clock
      const ahead: Clock.Clock = Object.assign(Object.create(clock), {
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + hour
      })
      const records = [0, hour, 1000].map((offset) => feedback(1, 1, "LIKE", { happenedAt: Date.now() + offset }))
      assert.deepStrictEqual(
        yield* violationsOf(record(...records, feedback(1_000_000_000, 1, "LIKE"))).pipe(
          Effect.provideService(Clock.Clock, ahead)
        ),
        [
          { field: "feedback[1].happenedAt", description: "expected a time from 1970 to a minute from now" },
          { field: "feedback[3].userId", description: "expected an id that CreateReader has given" }
        ]
      )
      assert.deepStrictEqual((yield* list({ userId: 1 })).feedback, [])
    })
  )

  test(
    "excludes what a reader has read or does not want to see",
    Effect.gen(function* () {
      const kinds: ReadonlyArray<FeedbackKind> = ["VIEW", "WANT_TO_READ", "READ", "LIKE", "DISLIKE", "RATING", "HIDE"]
      yield* record(...kinds.map((kind, index) => feedback(1, 1 + index, kind, { rating: kind === "RATING" ? 1 : 0 })))
      assert.deepStrictEqual(yield* excluded(1), [3, 4, 5, 6, 7])
      assert.deepStrictEqual(yield* excluded(2), [])
      assert.deepStrictEqual(yield* excluded(0), [])
      yield* record(feedback(1, 3, "RETRACT"), feedback(1, 4, "WANT_TO_READ"))
      assert.deepStrictEqual(yield* excluded(1), [5, 6, 7])
    })
  )

  test(
    "uses in a reader's next call what was recorded, while other calls of the reader read and record",
    Effect.gen(function* () {
      const oneClient = Effect.fnUntraced(function* (bookId: number) {
        for (let round = 0; round < 25; round++) {
          const isHidden = round % 2 === 0
          yield* record(feedback(1, bookId, isHidden ? "HIDE" : "RETRACT"))
          assert.strictEqual((yield* excluded(1)).includes(bookId), isHidden)
        }
      })
      yield* Effect.forEach(Array.from({ length: 40 }), (_, index) => oneClient(index + 1), {
        concurrency: "unbounded",
        discard: true
      })
    })
  )

  test(
    "creates a reader once for each request, also at the same time",
    Effect.gen(function* () {
      const { create } = yield* Readers
      const requestId = randomUUID()
      const ids = yield* Effect.forEach(
        Array.from({ length: 50 }),
        (_, index) => create(index % 2 === 0 ? requestId : requestId.toUpperCase()),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([...new Set(ids)], [1_000_000_000])
      const others = yield* Effect.forEach(Array.from({ length: 50 }), () => createReader, {
        concurrency: "unbounded"
      })
      assert.strictEqual(new Set([...ids, ...others]).size, 51)
      assert.deepStrictEqual(yield* record(feedback(others[0]!, 1, "LIKE")), { recorded: 1, duplicates: 0, dropped: 0 })
      assert.deepStrictEqual(yield* violationsOf(create("no UUID")), [
        { field: "requestId", description: "expected a UUID" }
      ])
    })
  )

  test(
    "forgets a reader whom it created, for ever",
    Effect.gen(function* () {
      const { create } = yield* Readers
      const requestId = randomUUID()
      const userId = yield* create(requestId)
      yield* record(feedback(userId, 1, "LIKE"), feedback(userId, 2, "VIEW"))
      assert.deepStrictEqual(yield* excluded(userId), [1])
      assert.strictEqual(yield* forget(userId), 2)
      assert.deepStrictEqual(yield* excluded(userId), [])
      assert.deepStrictEqual((yield* list({ userId })).feedback, [])
      yield* backdateTombstone(userId)
      assert.deepStrictEqual(yield* record(feedback(userId, 1, "LIKE"), feedback(1, 1, "LIKE")), {
        recorded: 1,
        duplicates: 0,
        dropped: 1
      })
      for (const table of ["feedback", "reader_books", "reader_requests"]) {
        assert.deepStrictEqual(yield* rowsOf(table, userId), [])
      }
      assert.strictEqual(yield* forget(userId), 0)
      assert.notStrictEqual(yield* create(requestId), userId)
    })
  )

  test(
    "forgets one of the shop's accounts, for a day",
    Effect.gen(function* () {
      yield* record(feedback(5, 1, "LIKE"))
      assert.strictEqual(yield* forget(5), 1)
      assert.strictEqual((yield* record(feedback(5, 1, "LIKE"))).dropped, 1)
      yield* backdateTombstone(5)
      assert.strictEqual((yield* record(feedback(5, 1, "LIKE"))).recorded, 1)
      assert.strictEqual((yield* record(feedback(5, 2, "LIKE"))).recorded, 1)
      assert.deepStrictEqual(yield* excluded(5), [1, 2])
    })
  )

  test(
    "leaves no trace in a forgotten reader's row of how much was recorded",
    Effect.gen(function* () {
      const userId = yield* createReader
      yield* record(feedback(5, 1, "LIKE"), feedback(userId, 1, "LIKE"))
      yield* record(feedback(5, 2, "LIKE"), feedback(userId, 2, "LIKE"))
      for (const id of [5, userId]) {
        yield* forget(id)
        assert.deepStrictEqual(
          (yield* rowsOf("readers", id)).map((row) => (row as { readonly version: unknown }).version),
          [1]
        )
      }
    })
  )

  test(
    "deletes the rows of forgotten accounts after a day, and of no others",
    Effect.gen(function* () {
      const userId = yield* createReader
      yield* Effect.forEach([5, 6, 7, userId], forget)
      yield* record(feedback(8, 1, "LIKE"))
      yield* Effect.forEach([5, 6, userId], backdateTombstone)
      yield* retention.deleteTombstones
      const counts = Effect.forEach([5, 6, 7, 8, userId], (id) =>
        Effect.map(rowsOf("readers", id), ({ length }) => length)
      )
      // the service has begun to delete some of them by itself
      yield* Effect.repeat(counts, { until: ([five, six]) => five === 0 && six === 0 })
      assert.deepStrictEqual(yield* counts, [0, 0, 1, 1, 1])
      assert.strictEqual((yield* record(feedback(5, 1, "LIKE"))).recorded, 1)
    })
  )

  it.live("creates no reader when all ids have been given, with one error", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      const { create } = yield* Readers
      const { transaction } = yield* Database
      const sql = yield* SqlClient.SqlClient
      yield* transaction("next", sql`UPDATE reader_ids SET next_id = 2147483647`)
      const requestId = randomUUID()
      assert.strictEqual(yield* create(requestId), 2_147_483_647)
      for (let call = 0; call < 2; call++) {
        assert.strictEqual((yield* Effect.flip(create(randomUUID())))._tag, "NoReaderIds")
      }
      assert.strictEqual(yield* create(requestId), 2_147_483_647)
      assert.deepStrictEqual(
        logs.lines().flatMap(({ level, message }) => (level === "ERROR" ? [message] : [])),
        ["All ids of readers have been given: no reader can be created any more"]
      )
    }).pipe(
      Effect.provide(Layer.unwrap(Effect.map(fresh, (url) => replica(url)))),
      Effect.scoped,
      Effect.provide(logs.layer)
    )
  })

  test(
    "forgets unknown readers, without a row for an id that it can still give",
    Effect.gen(function* () {
      assert.strictEqual(yield* forget(77), 0)
      assert.strictEqual((yield* record(feedback(77, 1, "LIKE"))).dropped, 1)
      assert.strictEqual(yield* forget(1_000_000_000), 0)
      const userId = yield* createReader
      assert.strictEqual(userId, 1_000_000_000)
      assert.strictEqual((yield* record(feedback(userId, 1, "LIKE"))).recorded, 1)
      for (const id of [0, -1]) {
        assert.deepStrictEqual(yield* violationsOf(forget(id)), [
          { field: "userId", description: "expected 1 or above" }
        ])
      }
    })
  )

  test(
    "leaves nothing when readers are forgotten while their feedback is recorded",
    Effect.gen(function* () {
      const rounds = Array.from({ length: 1000 }, (_, index) => index)
      yield* Effect.forEach(
        rounds,
        (round) => {
          // readers of other rounds too, in any order
          const userIds = [1 + (round % 50), 1 + ((round * 7) % 50), 1 + ((round * 13) % 50)]
          const recording = record(...userIds.map((userId) => feedback(userId, 1 + (round % 200), "LIKE")))
          return Effect.all([recording, forget(userIds[0]!), forget(userIds[2]!)], { concurrency: "unbounded" })
        },
        { concurrency: 20 }
      )
      const left = yield* Effect.forEach(rounds.slice(0, 50), (index) =>
        Effect.all([rowsOf("feedback", index + 1), rowsOf("reader_books", index + 1), rowsOf("readers", index + 1)])
      )
      for (const [feedback, books, [reader]] of left) {
        assert.deepStrictEqual([feedback, books], [[], []])
        assert.isNotNull((reader as { readonly forgotten_at: unknown }).forgotten_at)
      }
    })
  )

  test(
    "lists feedback from the newest to the oldest, in pages",
    Effect.gen(function* () {
      const now = Date.now()
      const records = Array.from({ length: 25 }, (_, index) =>
        feedback(1, 95 + (index % 10), index % 2 === 0 ? "LIKE" : "VIEW", {
          // some at the same time
          happenedAt: now - 1000 * Math.floor(index / 3)
        })
      )
      yield* record(...records, feedback(2, 1, "LIKE"))
      const pages: Array<ReadonlyArray<string>> = []
      for (let pageToken = ""; pages.length < 10;) {
        const page = yield* list({ userId: 1, pageSize: 10, pageToken })
        pages.push(page.feedback.map(({ feedbackId }) => feedbackId))
        assert.sameMembers(
          page.books.map(({ id }) => id),
          [...new Set(page.feedback.map(({ bookId }) => bookId))]
        )
        // as new feedback would not move a page
        yield* record(feedback(1, 1, "VIEW", { happenedAt: now + 1000 }))
        pageToken = page.nextPageToken
        if (pageToken === "") break
      }
      assert.deepStrictEqual(
        pages.map(({ length }) => length),
        [10, 10, 5]
      )
      const groups = Array.from({ length: 9 }, (_, index) => records.slice(3 * index, 3 * index + 3).toReversed())
      assert.deepStrictEqual(
        pages.flat(),
        groups.flat().map(({ feedbackId }) => feedbackId)
      )
    })
  )

  test(
    "lists only what counts now, only some books, and both",
    Effect.gen(function* () {
      yield* record(
        feedback(1, 1, "LIKE"),
        feedback(1, 1, "RATING", { rating: 4, recommendationId: "r1" }),
        feedback(1, 2, "LIKE"),
        feedback(1, 2, "RETRACT"),
        feedback(1, 3, "VIEW", { happenedAt: Date.now() + 5000 }),
        feedback(1, 4, "READ")
      )
      assert.deepStrictEqual(yield* currentOf(1), { 1: "RATING", 4: "READ" })
      const some = yield* list({ userId: 1, bookIds: [2, 3, 99] })
      assert.deepStrictEqual(
        some.feedback.map(({ kind }) => kind),
        ["VIEW", "RETRACT", "LIKE"]
      )
      const current = yield* list({ userId: 1, bookIds: [1, 2], currentOnly: true })
      assert.deepStrictEqual(
        current.feedback.map(({ kind, rating, recommendationId }) => [kind, rating, recommendationId]),
        [["RATING", 4, "r1"]]
      )
      assert.deepStrictEqual(current.books, [book(1)])
    })
  )

  test(
    "refuses invalid queries and names every field",
    Effect.gen(function* () {
      const bookIds = Array.from({ length: 101 }, (_, index) => index + 1)
      const violations = yield* violationsOf(list({ userId: 0, pageSize: -1, pageToken: "broken", bookIds }))
      assert.deepStrictEqual(
        (violations as ReadonlyArray<{ readonly field: string }>).map(({ field }) => field),
        ["userId", "pageSize", "pageToken", "bookIds"]
      )
    })
  )

  test(
    "deletes impressions after their time, and nothing else",
    Effect.gen(function* () {
      const happenedAt = Date.now() - Duration.toMillis("2 hours")
      const old = Array.from({ length: 1500 }, (_, index) =>
        feedback(1, 1 + (index % 200), "IMPRESSION", { happenedAt })
      )
      yield* record(...old.slice(0, 1000))
      yield* record(...old.slice(1000), feedback(1, 1, "VIEW", { happenedAt }), feedback(1, 2, "IMPRESSION"))
      assert.strictEqual(yield* retention.deleteImpressions(Duration.hours(1)), 1500)
      assert.deepStrictEqual(
        (yield* list({ userId: 1 })).feedback.map(({ kind }) => kind),
        ["IMPRESSION", "VIEW"]
      )
    })
  )

  it.live("uses the last history while the database does not answer, and says so", () =>
    Effect.scoped(
      Effect.gen(function* () {
        let isDown = false
        const layer = changedReplica(yield* fresh, (database) => {
          const failing: Run = (operation, effect, options) =>
            Effect.suspend(() =>
              isDown
                ? Effect.fail(new DatabaseUnavailable({ reason: "down", isOutage: true }))
                : database.run(operation, effect, options)
            )
          return { run: failing, transaction: failing }
        })
        yield* Effect.gen(function* () {
          const { history } = yield* Readers
          yield* addBooks
          yield* record(feedback(1, 1, "LIKE"))
          yield* excluded(1)
          isDown = true
          const known = yield* history(1)
          // SQLite has no other writers, but for imports
          assert.deepStrictEqual(known, {
            excluded: new Set([1]),
            source: system === "sqlite" ? "current" : "cached"
          })
          assert.deepStrictEqual(yield* history(2), { excluded: new Set<number>(), source: "unavailable" })
          assert.deepStrictEqual((yield* history(0)).source, "current")
          const refused = yield* Effect.flip(record(feedback(1, 2, "LIKE")))
          assert.strictEqual(refused._tag, "ReadersUnavailable")
          isDown = false
          assert.deepStrictEqual(yield* excluded(2), [])
        }).pipe(Effect.provide(layer))
      })
    )
  )

  it.effect("asks a slow database for histories once a second after five failures", () =>
    Effect.gen(function* () {
      let isSlow = true
      let reads = 0
      const layer = changedReplica(yield* fresh, ({ run }) => {
        const changed: Run = (operation, effect, options) =>
          operation === "readers.history"
            ? Effect.suspend(() => {
                reads++
                return isSlow
                  ? Effect.fail(new DatabaseUnavailable({ reason: "no answer", isOutage: false }))
                  : run(operation, effect, options)
              })
            : run(operation, effect, options)
        return { run: changed }
      })
      yield* Effect.gen(function* () {
        const { history } = yield* Readers
        const readTenTimes = Effect.forEach(Array.from({ length: 10 }), () => history(1))
        const results = yield* readTenTimes
        assert.deepStrictEqual(new Set(results.map(({ source }) => source)), new Set(["unavailable"]))
        assert.strictEqual(reads, 5)
        yield* TestClock.adjust("999 millis")
        yield* readTenTimes
        assert.strictEqual(reads, 5)
        for (const expected of [6, 7]) {
          yield* TestClock.adjust("1 second")
          yield* readTenTimes
          assert.strictEqual(reads, expected)
        }
        isSlow = false
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* excluded(1), [])
        assert.deepStrictEqual(yield* excluded(2), [])
        assert.strictEqual(reads, 9)
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.scoped)
  )

  it.effect("answers without a history when reading it fails unexpectedly, and logs the first error", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const { history } = yield* Readers
        const { transaction } = yield* Database
        const sql = yield* SqlClient.SqlClient
        for (let round = 1; round <= 2; round++) {
          yield* transaction("hide", sql`ALTER TABLE reader_books RENAME TO hidden`)
          for (let call = 0; call < 3; call++) {
            assert.deepStrictEqual(yield* history(round), { excluded: new Set<number>(), source: "unavailable" })
          }
          yield* transaction("show", sql`ALTER TABLE hidden RENAME TO reader_books`)
          assert.deepStrictEqual(yield* excluded(round), [])
        }
      }).pipe(Effect.provide(replica(yield* fresh)))
      const errors = logs.lines().filter(({ level }) => level === "ERROR")
      assert.deepStrictEqual(
        errors.map(({ message }) => message),
        Array.from({ length: 2 }, () => "The histories of readers cannot be read")
      )
      assert.isTrue(errors.every(({ cause }) => cause?.includes("reader_books")))
    }).pipe(Effect.scoped, Effect.provide(logs.layer))
  })

  it.effect("deletes expired rows again after unexpected errors, the first of which is logged", () => {
    const logs = Logs.recorder()
    return Effect.gen(function* () {
      let attempts = 0
      yield* Layer.build(
        changedReplica(yield* fresh, () => {
          // without the database, so that nothing takes time
          const changed: Run = (operation) => {
            const deleted = operation === "readers.delete_impressions"
            return Effect.suspend(() => {
              if (deleted) attempts++
              return deleted && attempts < 4 ? Effect.die(new Error("no such table")) : Effect.succeed([])
            }) as never
          }
          return { run: changed, transaction: changed }
        })
      )
      for (let hour = 0; hour < 5; hour++) {
        yield* TestClock.adjust(hour === 0 ? 0 : "1 hour")
        assert.strictEqual(attempts, hour + 1)
      }
      const errors = logs.lines().filter(({ level }) => level === "ERROR")
      assert.deepStrictEqual(
        errors.map(({ message }) => message),
        ["Expired rows cannot be deleted"]
      )
    }).pipe(Effect.scoped, Effect.provide(logs.layer))
  })

  if (system === "postgresql") {
    it.live("records feedback of other readers while one of them is locked", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const url = yield* fresh
          const one = yield* Layer.build(replica(url))
          const other = yield* Layer.build(connect(url))
          yield* Effect.provideContext(addBooks, one)
          yield* Effect.provideContext(record(feedback(1, 1, "LIKE")), one)
          const locked = yield* Latch.make()
          const lock = Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            yield* sql`SELECT 1 FROM readers WHERE user_id = 1 FOR UPDATE`
            return yield* Effect.andThen(locked.open, Effect.never)
          })
          const { transaction } = Context.get(other, Database)
          yield* Effect.forkScoped(Effect.provideContext(transaction("lock", lock), other))
          yield* locked.await
          const exits = yield* Effect.forEach(
            Array.from({ length: 40 }),
            (_, index) => Effect.exit(record(feedback(1 + index, 1, "LIKE"))),
            { concurrency: "unbounded" }
          ).pipe(Effect.provideContext(one))
          assert.deepStrictEqual(exits.map(Exit.isSuccess), [false, ...Array.from({ length: 39 }, () => true)])
        })
      )
    )

    it.live("uses in the next call what another replica has recorded", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const url = yield* fresh
          const one = yield* Layer.build(replica(url))
          const other = yield* Layer.build(replica(url))
          yield* Effect.provideContext(addBooks, one)
          for (let round = 0; round < 1000; round++) {
            const [userId, bookId] = [1 + (round % 7), 1 + (round % 200)]
            const isHidden = round % 2 === 0
            const [here, there] = round % 3 === 0 ? [one, other] : [other, one]
            yield* Effect.provideContext(record(feedback(userId, bookId, isHidden ? "HIDE" : "RETRACT")), here)
            assert.strictEqual((yield* Effect.provideContext(excluded(userId), there)).includes(bookId), isHidden)
          }
        })
      )
    )
  }

  if (system === "sqlite") {
    it.live("uses what another process has written to the file, after the refresh", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const url = yield* fresh
          const one = yield* Layer.build(replica(url, { refresh: Duration.millis(5) }))
          const other = yield* Layer.build(replica(url))
          yield* Effect.provideContext(addBooks, one)
          assert.deepStrictEqual(yield* Effect.provideContext(excluded(1), one), [])
          yield* Effect.provideContext(record(feedback(1, 1, "HIDE")), other)
          yield* Effect.provideContext(
            Effect.repeat(excluded(1), { until: (books) => books.length > 0, schedule: Schedule.spaced("5 millis") }),
            one
          )
        })
      )
    )

    it.live("notices writes of other processes also after unexpected errors", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const url = yield* fresh
          let polls = 0
          const one = yield* Layer.build(
            changedReplica(
              url,
              ({ run }) => {
                const changed: Run = (operation, effect, options) =>
                  operation === "readers.data_version"
                    ? Effect.suspend(() => (++polls < 4 ? Effect.die("bug") : run(operation, effect, options)))
                    : run(operation, effect, options)
                return { run: changed }
              },
              { refresh: Duration.millis(5) }
            )
          )
          const other = yield* Layer.build(replica(url))
          yield* Effect.provideContext(addBooks, one)
          assert.deepStrictEqual(yield* Effect.provideContext(excluded(1), one), [])
          yield* Effect.provideContext(record(feedback(1, 1, "HIDE")), other)
          yield* Effect.provideContext(
            Effect.repeat(excluded(1), { until: (books) => books.length > 0, schedule: Schedule.spaced("5 millis") }),
            one
          )
        })
      )
    )

    it.live("reads histories again after the database was unavailable, since its counter can be the same", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const url = yield* fresh
          const availability = yield* Queue.unbounded<boolean>()
          const one = yield* Layer.build(changedReplica(url, () => ({ availability: Stream.fromQueue(availability) })))
          const other = yield* Layer.build(replica(url))
          yield* Effect.provideContext(addBooks, one)
          assert.deepStrictEqual(yield* Effect.provideContext(excluded(1), one), [])
          yield* Effect.provideContext(record(feedback(1, 1, "HIDE")), other)
          assert.deepStrictEqual(yield* Effect.provideContext(excluded(1), one), [])
          yield* Queue.offerAll(availability, [false, true])
          yield* Effect.provideContext(
            Effect.repeat(excluded(1), { until: (books) => books.length > 0, schedule: Schedule.spaced("5 millis") }),
            one
          )
        })
      )
    )

    it.effect(
      "forgets a reader while another process reads the file, and warns once that the log still has the records",
      () => {
        const logs = Logs.recorder()
        return Effect.gen(function* () {
          const url = yield* fresh
          let isAttempting = false
          const one = yield* Layer.build(
            changedReplica(url, ({ run }) => {
              const changed: Run = (operation, effect, options) => {
                const done = run(operation, effect, options)
                if (operation !== "readers.truncate_log") return done
                const setAttempting = (is: boolean) =>
                  Effect.sync(() => {
                    isAttempting = is
                  })
                return Effect.andThen(setAttempting(true), Effect.ensuring(done, setAttempting(false)))
              }
              return { run: changed }
            })
          )
          // its warnings are not counted
          const other = yield* Effect.provide(Layer.build(replica(url)), Logs.recorder().layer)
          // a replica that is locked out by the other one waits by the clock
          const advancing = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
            Effect.gen(function* () {
              const fiber = yield* Effect.forkChild(effect)
              // slowly, so that no time limit is over while the database works
              const turns = Effect.replicateEffect(Effect.promise(nextTurn), 10, { discard: true })
              const step = Effect.andThen(TestClock.adjust("1 millis"), turns)
              yield* Effect.repeat(step, { until: () => fiber.pollUnsafe() !== undefined })
              return yield* Fiber.join(fiber)
            })
          yield* advancing(Effect.provideContext(addBooks, one))
          // more than a cursor fetches at once
          for (let call = 0; call < 2; call++) {
            const records = Array.from({ length: 1000 }, () => feedback(1, 1, "VIEW"))
            yield* advancing(Effect.provideContext(record(...records), one))
          }
          const reading = yield* Latch.make()
          const read = Effect.flatMap(SqlClient.SqlClient, (sql) =>
            Stream.runForEach(sql`SELECT * FROM feedback`.stream, () => Effect.andThen(reading.open, Effect.never))
          )
          const reader = yield* Effect.forkScoped(Effect.provideContext(read, other))
          yield* reading.await
          assert.strictEqual(yield* advancing(Effect.provideContext(forget(1), one)), 2000)
          const warnings = () => logs.lines().filter(({ message }) => String(message).includes("write-ahead log"))
          // an attempt must not time out
          const pass = Effect.andThen(
            Effect.suspend(() => (isAttempting ? Effect.void : TestClock.adjust("1 second"))),
            Effect.promise(nextTurn)
          )
          yield* Effect.repeat(pass, { until: () => warnings().length > 0 })
          assert.match(
            String(warnings()[0]?.message),
            /^The write-ahead log cannot be truncated, such as while another process reads/
          )
          yield* Fiber.interrupt(reader)
          yield* Effect.repeat(pass, { until: () => walSize(url) === 0 })
          assert.strictEqual(warnings().length, 1)
        }).pipe(Effect.scoped, Effect.provide(logs.layer))
      }
    )

    it.live("truncates the log at the start, also after an unexpected error", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const url = yield* fresh
          yield* Effect.provideContext(addBooks, yield* Layer.build(connect(url)))
          assert.isAbove(walSize(url), 0)
          let attempts = 0
          const changed = changedReplica(url, ({ run }) => {
            const changed: Run = (operation, effect, options) =>
              operation === "readers.truncate_log"
                ? Effect.suspend(() => (attempts++ === 0 ? Effect.die("bug") : run(operation, effect, options)))
                : run(operation, effect, options)
            return { run: changed }
          })
          yield* Layer.build(changed)
          yield* untilTruncated(url)
        })
      )
    )

    it.live.each(["fails", "goes on after the client went away"])(
      "truncates the log after a transaction that %s, since it may have forgotten the reader",
      (outcome) =>
        Effect.scoped(
          Effect.gen(function* () {
            const url = yield* fresh
            const forgotten = yield* Latch.make()
            const context = yield* Layer.build(
              changedReplica(url, ({ transaction }) => {
                const changed: Run = (operation, effect, options) => {
                  const done = transaction(operation, effect, options)
                  if (operation !== "readers.forget") return done
                  const end =
                    outcome === "fails"
                      ? Effect.fail(new DatabaseUnavailable({ reason: "lost", isOutage: true }))
                      : Effect.never
                  return Effect.andThen(done, Effect.andThen(forgotten.open, end)) as never
                }
                return { transaction: changed }
              })
            )
            yield* Effect.gen(function* () {
              yield* addBooks
              yield* record(feedback(1, 1, "LIKE"))
              assert.isAbove(walSize(url), 0)
              const call = yield* Effect.forkChild(forget(1))
              yield* forgotten.await
              yield* outcome === "fails" ? Fiber.await(call) : Fiber.interrupt(call)
              yield* untilTruncated(url)
            }).pipe(Effect.provideContext(context))
          })
        )
    )

    it.live("truncates the log once at a time, however many readers are forgotten", () =>
      Effect.scoped(
        Effect.gen(function* () {
          let running = 0
          let attempts = 0
          const counted = changedReplica(yield* fresh, ({ run }) => {
            const changed: Run = (operation, effect, options) => {
              const done = run(operation, effect, options)
              if (operation !== "readers.truncate_log") return done
              return Effect.suspend(() => {
                attempts++
                assert.strictEqual(++running, 1)
                return Effect.ensuring(
                  done,
                  Effect.sync(() => running--)
                )
              })
            }
            return { run: changed }
          })
          yield* Effect.forEach(Array.from({ length: 100 }), (_, index) => forget(index + 1), {
            concurrency: "unbounded"
          }).pipe(Effect.provide(counted))
          assert.isAbove(attempts, 0)
          assert.isBelow(attempts, 50)
        })
      )
    )

    it.live("leaves nothing of a forgotten reader in the files", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const url = yield* fresh
          const { filename } = url as SqliteUrl
          const contains = (text: string) =>
            [filename, `${filename}-wal`].some((file) => readFileSync(file).includes(text))
          yield* Effect.gen(function* () {
            yield* addBooks
            const { create } = yield* Readers
            const requestId = randomUUID()
            const userId = yield* create(requestId)
            const records = Array.from({ length: 500 }, (_, index) =>
              feedback(userId, 1 + (index % 200), "LIKE", { recommendationId: `secret-${index}` })
            )
            yield* record(...records)
            yield* record(feedback(1, 1, "LIKE", { recommendationId: "kept" }))
            const texts = [requestId, "secret-", ...records.map(({ feedbackId }) => feedbackId)]
            assert.isTrue(texts.every(contains))
            yield* forget(userId)
            assert.deepStrictEqual(texts.filter(contains), [])
            assert.isTrue(contains("kept"))
          }).pipe(Effect.provide(replica(url)))
        })
      )
    )
  }
})

/** The next turn of the event loop. */
const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** The size of the write-ahead log of SQLite, in bytes. */
const walSize = (url: DatabaseUrl): number => statSync(`${(url as SqliteUrl).filename}-wal`).size

const untilTruncated = (url: DatabaseUrl) =>
  Effect.repeat(
    Effect.sync(() => walSize(url)),
    { until: (size) => size === 0, schedule: Schedule.spaced("5 millis") }
  )

/** Moves the time at which a reader was forgotten a day into the past. */
const backdateTombstone = Effect.fnUntraced(function* (userId: number) {
  const { transaction } = yield* Database
  const sql = yield* SqlClient.SqlClient
  yield* transaction(
    "backdate",
    sql`UPDATE readers SET forgotten_at = forgotten_at - 86400000 WHERE user_id = ${userId}`
  )
})
