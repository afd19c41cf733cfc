/**
 * The histories of readers for recommendations: what was recorded at any replica counts in the reader's next call.
 *
 * With SQLite, this process alone records feedback, except for imports. So a history that was read once stays valid until feedback is recorded here, or
 * until another process has written to the file, which is polled. With PostgreSQL each call reads the history; the last one that was
 * read only serves when the database does not answer in time.
 */
import { type Duration, Effect } from "effect"
import { SqlClient } from "effect/sql"

import { excludingKinds } from "../../domain/Feedback.ts"
import { type History, noHistory } from "../../domain/Readers.ts"
import { Database } from "../../layers/sql/Database.ts"
import { numberByKind } from "../kindNumbers.ts"
import { HistoryCache } from "./HistoryCache.ts"
import type { Settings } from "./SqlReaders.ts"

/**
 * The age in milliseconds at which a history that was read is dropped, and the interval at which that is checked. It bounds how long other
 * replicas keep those of forgotten readers.
 */
const maxAge = 600_000

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
  const { run } = yield* Database
  const sql = yield* SqlClient.SqlClient
  const cache = new HistoryCache()
  const isShared = sql.onDialectOrElse({ pg: () => true, orElse: () => false })
  const kinds = excludingKinds.map((kind) => numberByKind.get(kind)!)

  const read = (userId: number) =>
    cache.read(
      userId,
      Effect.map(
        run(
          "readers.history",
          sql`SELECT book_id FROM reader_books WHERE user_id = ${userId} AND ${sql.in("kind", kinds)}`.values,
          { timeout: historyTimeout }
        ),
        (rows): ReadonlySet<number> => new Set(rows.map(([bookId]) => bookId as number))
      )
    )

  /** What is known without the database. */
  const fallback = (userId: number): History => {
    const excluded = cache.get(userId)
    return excluded === undefined ? { ...noHistory, source: "unavailable" } : { excluded, source: "cached" }
  }

  const history = (userId: number): Effect.Effect<History> => {
    if (userId === 0) return Effect.succeed(noHistory)
    const known = isShared ? undefined : cache.get(userId)
    if (known !== undefined) return Effect.succeed({ excluded: known, source: "current" })
    return Effect.match(read(userId), {
      onSuccess: (excluded) => ({ excluded, source: "current" }),
      onFailure: () => fallback(userId)
    })
  }

  if (!isShared) yield* clearAfterWritesOfOthers(cache, refresh)
  yield* Effect.clockWith((clock) =>
    Effect.sync(() => cache.deleteOlderThan(clock.currentTimeMillisUnsafe() - maxAge))
  ).pipe(Effect.delay(maxAge), Effect.forever, Effect.forkScoped)

  const histories: ReaderHistories = {
    history: (userId) => Effect.suspend(() => history(userId)),
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

/** Polls the counter of SQLite that changes when another connection has written. */
const clearAfterWritesOfOthers = Effect.fnUntraced(function* (cache: HistoryCache, refresh: Duration.Duration) {
  const { run } = yield* Database
  const sql = yield* SqlClient.SqlClient
  let version: unknown
  const poll = Effect.match(run("readers.data_version", sql`PRAGMA data_version`.values), {
    onSuccess: ([row]) => {
      if (row?.[0] !== version) cache.clear()
      version = row?.[0]
    },
    // the next answer shows what was missed
    onFailure: () => {}
  })
  yield* poll
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(refresh), poll)))
})
