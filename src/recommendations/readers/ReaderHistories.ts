/**
 * The histories of readers for recommendations: what was recorded at any replica counts in the reader's next call.
 *
 * With SQLite, this process alone records feedback, except for imports. So a history that was read once stays valid until feedback is recorded here, or
 * until another process has written to the file, which is polled. With PostgreSQL each call reads the history; the last one that was
 * read only serves when the database does not answer in time.
 */
import { type Array as Arr, type Clock, type Duration, Effect, Exit, Stream } from "effect"
import { SqlClient } from "effect/sql"

import { excludingKinds } from "../../domain/Feedback.ts"
import { type History, noHistory } from "../../domain/Readers.ts"
import { Database, DatabaseUnavailable } from "../../layers/sql/Database.ts"
import * as GroupCommit from "../../layers/sql/GroupCommit.ts"
import { jsonRows } from "../../layers/sql/jsonRows.ts"
import * as repeatedTask from "../../layers/telemetry/repeatedTask.ts"
import { numberByKind } from "../kindNumbers.ts"
import { HistoryCache } from "./HistoryCache.ts"
import type { Settings } from "./SqlReaders.ts"

/**
 * The age in milliseconds at which a history that was read is dropped, and how often that is checked. It bounds how long other replicas keep
 * those of forgotten readers.
 */
const maxAge = 600_000
const ageCheckInterval: Duration.Input = "1 minute"

/** After this many reads that failed one after the other, there is one read in each pause, so that a slow database is not flooded. */
const maxFailures = 5
const pause = 1000

/** The readers whose histories are read together. */
const maxReadersOfStatement = 100

/** Statements at the same time in PostgreSQL. */
const concurrency = 4

export interface ReaderHistories {
  /** See `Readers`. */
  readonly history: (userId: number) => Effect.Effect<History>
  /** Has to run after a transaction that can have recorded feedback of readers, whatever became of it. */
  readonly onRecorded: (userIds: Iterable<number>) => Effect.Effect<void>
  /** Has to run after a transaction that can have forgotten a reader, whatever became of it. */
  readonly onForgotten: (userId: number) => Effect.Effect<void>
}

export const make = Effect.fnUntraced(function* ({
  historyTimeout,
  refresh
}: Pick<Settings, "historyTimeout" | "refresh">) {
  const { availability, run } = yield* Database
  const sql = yield* SqlClient.SqlClient
  const cache = new HistoryCache()
  const isShared = sql.onDialectOrElse({ pg: () => true, orElse: () => false })

  // calls that arrive while others are read are read together: a statement costs more than what it reads
  const readTogether = yield* GroupCommit.make({
    commit: (userIds: Arr.NonEmptyReadonlyArray<number>) =>
      Effect.map(
        run("readers.history", selectExcluded(sql, userIds), { timeout: historyTimeout }),
        (rows): ReadonlyArray<Exit.Exit<ReadonlySet<number>, DatabaseUnavailable>> => {
          const excluded = new Map(userIds.map((userId) => [userId, new Set<number>()]))
          for (const [userId, bookId] of rows as ReadonlyArray<[number, number]>) excluded.get(userId)!.add(bookId)
          return userIds.map((userId) => Exit.succeed(excluded.get(userId)!))
        }
      ),
    sizeOf: () => 1,
    maxSize: maxReadersOfStatement,
    concurrency: isShared ? concurrency : 1,
    isSplit: () => false
  })

  const read = (userId: number) =>
    cache.read(
      userId,
      Effect.timeoutOrElse(readTogether(userId), {
        duration: historyTimeout,
        orElse: () => Effect.fail(new DatabaseUnavailable({ reason: "other histories took too long", isOutage: false }))
      })
    )

  /** What is known without the database. */
  const fallback = (userId: number): History => {
    const excluded = cache.get(userId)
    return excluded === undefined ? { ...noHistory, source: "unavailable" } : { excluded, source: "cached" }
  }

  const failures = new ConsecutiveFailures()
  const guard = repeatedTask.makeGuard("The histories of readers cannot be read")

  const history = (userId: number, clock: Clock.Clock): Effect.Effect<History> => {
    if (userId === 0) return Effect.succeed(noHistory)
    const known = isShared ? undefined : cache.get(userId)
    if (known !== undefined) return Effect.succeed({ excluded: known, source: "current" })
    if (failures.isPaused(clock.currentTimeMillisUnsafe())) return Effect.succeed(fallback(userId))
    const readOrFallback = Effect.match(read(userId), {
      onSuccess: (excluded): History => {
        failures.reset()
        return { excluded, source: "current" }
      },
      onFailure: () => {
        failures.add(clock.currentTimeMillisUnsafe())
        return fallback(userId)
      }
    })
    return guard(readOrFallback, () => fallback(userId))
  }

  if (!isShared) yield* clearAfterWritesOfOthers(cache, refresh)
  yield* availability.pipe(
    // the state at the start
    Stream.drop(1),
    Stream.runForEach((isAvailable) =>
      Effect.sync(() => {
        if (!isAvailable) return
        failures.reset()
        // a new connection to a file of SQLite can have the counter of the one before, whatever was written meanwhile
        if (!isShared) cache.clear()
      })
    ),
    Effect.forkScoped
  )
  yield* Effect.clockWith((clock) =>
    Effect.sync(() => cache.deleteOlderThan(clock.currentTimeMillisUnsafe() - maxAge))
  ).pipe(Effect.delay(ageCheckInterval), Effect.forever, Effect.forkScoped)

  const histories: ReaderHistories = {
    history: (userId) => Effect.clockWith((clock) => history(userId, clock)),
    onRecorded: (userIds) =>
      Effect.sync(() => {
        // without the database, an older history is better than none
        if (isShared) return
        for (const userId of userIds) cache.delete(userId)
      }),
    onForgotten: (userId) => Effect.sync(() => cache.delete(userId))
  }
  return histories
})

const kinds = excludingKinds.map((kind) => numberByKind.get(kind)!)

/** Rows of a reader and a book that is not recommended to that reader. */
const selectExcluded = (sql: SqlClient.SqlClient, userIds: ReadonlyArray<number>) => {
  const input = jsonRows(
    sql,
    { user_id: "INTEGER" },
    [...new Set(userIds)].map((user_id) => ({ user_id }))
  )
  return sql`SELECT user_id, book_id FROM ${input} JOIN reader_books USING (user_id) WHERE ${sql.in("kind", kinds)}`
    .values
}

/** Reads that failed since the last one that did not. */
class ConsecutiveFailures {
  #count = 0
  #pausedUntil = 0

  /** Whether no read may begin at a time. If one may, this pauses the others. */
  isPaused(now: number): boolean {
    if (this.#count < maxFailures) return false
    if (now < this.#pausedUntil) return true
    this.#pausedUntil = now + pause
    return false
  }

  /** A read has failed at a time. */
  add(now: number): void {
    if (++this.#count === maxFailures) this.#pausedUntil = now + pause
  }

  reset(): void {
    this.#count = 0
  }
}

/** Polls the counter of SQLite that changes when another connection has written. */
const clearAfterWritesOfOthers = Effect.fnUntraced(function* (cache: HistoryCache, refresh: Duration.Duration) {
  const { run } = yield* Database
  const sql = yield* SqlClient.SqlClient
  // each connection has its own counter, so it has to be the one that writes
  const readVersion = Effect.scoped(
    Effect.flatMap(sql.reserve, (connection) => connection.executeValues("PRAGMA data_version", []))
  )
  const guard = repeatedTask.makeGuard("Writes of other processes cannot be noticed")
  let version: unknown
  const poll = Effect.match(run("readers.data_version", readVersion), {
    onSuccess: ([row]) => {
      if (row?.[0] !== version) cache.clear()
      version = row?.[0]
    },
    // the next answer shows what was missed
    onFailure: () => {}
  })
  yield* guard(poll)
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(refresh), guard(poll))))
})
