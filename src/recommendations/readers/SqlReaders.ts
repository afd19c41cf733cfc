/**
 * {@link Readers} in the database (docs/decisions/0024-what-readers-said.md).
 */
import { Config, Duration, Effect, Exit, Layer, Result } from "effect"
import { SqlClient } from "effect/sql"

import { expectedUserId, expectedUuid, isUuid, validate } from "../../domain/Feedback.ts"
import { InvalidQuery } from "../../domain/InvalidQuery.ts"
import { Readers, ReadersUnavailable, type Recording } from "../../domain/Readers.ts"
import * as Setting from "../../layers/config/Setting.ts"
import { Database, DatabaseUnavailable } from "../../layers/sql/Database.ts"
import * as GroupCommit from "../../layers/sql/GroupCommit.ts"
import { refreshInterval } from "../catalog/DatabaseCatalog.ts"
import { createReader } from "./createReader.ts"
import { forgetReader } from "./forgetReader.ts"
import { listFeedback } from "./listFeedback.ts"
import * as ReaderHistories from "./ReaderHistories.ts"
import { type Call, recordFeedback } from "./recordFeedback.ts"
import * as retention from "./retention.ts"
import * as walTruncation from "./walTruncation.ts"

export interface Settings {
  /** How often the file of SQLite is checked for writes of other processes. */
  readonly refresh: Duration.Duration
  /** How long a recommendation waits for the history of its reader. */
  readonly historyTimeout: Duration.Duration
  /** How long impressions are kept. */
  readonly impressionRetention: Duration.Duration
}

/** MODEL_REFRESH and IMPRESSION_RETENTION. */
export const settings: Config.Config<Settings> = Config.all({
  refresh: refreshInterval,
  historyTimeout: Config.succeed(Duration.millis(100)),
  impressionRetention: Setting.duration("IMPRESSION_RETENTION", {
    description: "How long feedback is kept that only says that a book was shown.",
    default: Duration.days(90),
    minimum: "1 hour",
    maximum: "36500 days"
  })
})

/** A transaction takes no more calls once it has this many records. */
const maxRecordsOfTransaction = 1000

/** Transactions that record feedback in PostgreSQL at the same time. SQLite has one. */
const concurrency = 4

export const layer = (settings: Settings): Layer.Layer<Readers, never, Database | SqlClient.SqlClient> =>
  Layer.effect(
    Readers,
    Effect.gen(function* () {
      const { run, transaction } = yield* Database
      const sql = yield* SqlClient.SqlClient
      const histories = yield* ReaderHistories.make(settings)
      yield* Effect.forkScoped(retention.run(settings.impressionRetention))
      const truncation = yield* walTruncation.make

      const record = yield* GroupCommit.make({
        commit: (calls) =>
          transaction("readers.record", recordFeedback(calls)).pipe(
            Effect.onExit((exit) =>
              histories.onRecorded(Exit.isSuccess(exit) ? exit.value.changedReaders : readersOf(calls))
            ),
            Effect.map(({ exits }): ReadonlyArray<Exit.Exit<Recording, InvalidQuery | DatabaseUnavailable>> => exits),
            Effect.provideService(SqlClient.SqlClient, sql)
          ),
        sizeOf: (call: Call) => call.length,
        maxSize: maxRecordsOfTransaction,
        concurrency: sql.onDialectOrElse({ pg: () => concurrency, orElse: () => 1 }),
        // the lock of one reader
        isSplit: (error) => error._tag === "DatabaseUnavailable" && !error.isOutage
      })

      const forget = (userId: number) =>
        transaction("readers.forget", forgetReader(userId)).pipe(
          Effect.ensuring(Effect.andThen(histories.onForgotten(userId), truncation.request)),
          Effect.tap(truncation.attempted)
        )

      let hasLoggedNoIds = false
      const create = (requestId: string) =>
        Effect.tapErrorTag(transaction("readers.create", createReader(requestId)), "NoReaderIds", () => {
          if (hasLoggedNoIds) return Effect.void
          hasLoggedNoIds = true
          return Effect.logError("All ids of readers have been given: no reader can be created any more")
        })

      const inDatabase = <A, E>(
        effect: Effect.Effect<A, E | DatabaseUnavailable, SqlClient.SqlClient>
      ): Effect.Effect<A, Exclude<E, DatabaseUnavailable> | ReadersUnavailable> =>
        effect.pipe(
          Effect.mapError((error) =>
            error instanceof DatabaseUnavailable
              ? new ReadersUnavailable({ cause: error })
              : (error as Exclude<E, DatabaseUnavailable>)
          ),
          Effect.provideService(SqlClient.SqlClient, sql)
        )

      return Readers.of({
        create: (requestId) =>
          isUuid(requestId) ? inDatabase(create(requestId.toLowerCase())) : invalid("requestId", expectedUuid),
        record: (received) =>
          Effect.clockWith((clock) => {
            const feedback = validate(received, clock.currentTimeMillisUnsafe())
            return Result.isFailure(feedback) ? Effect.fail(feedback.failure) : inDatabase(record(feedback.success))
          }),
        list: (query) => inDatabase(run("readers.list", listFeedback(query))),
        forget: (userId) => (userId >= 1 ? inDatabase(forget(userId)) : invalid("userId", expectedUserId)),
        history: histories.history
      })
    })
  )

/** {@link layer} with {@link settings}. */
export const layerConfig = Layer.unwrap(Effect.map(settings, layer))

const readersOf = (calls: ReadonlyArray<Call>): ReadonlyArray<number> => calls.flat().map(({ userId }) => userId)

const invalid = (field: string, description: string) =>
  Effect.fail(new InvalidQuery({ violations: [{ field, description }] }))
