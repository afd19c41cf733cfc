/**
 * Brings the schema of a database up to date, with Effect's Migrator: each migration runs once, in the order of their ids, one process at
 * a time.
 *
 * During a rollout two releases work on one schema. A database with migrations that a program does not know is refused by that program,
 * unless those migrations say that it still works with them.
 */
import { Effect, Schema } from "effect"
import { Migrator, SqlClient, SqlError } from "effect/sql"

import * as sqlErrors from "./sqlErrors.ts"

export interface Migration {
  /** 1 and up. */
  readonly id: number
  /** Words separated by underscores. */
  readonly name: string
  readonly run: Effect.Effect<unknown, SqlError.SqlError, SqlClient.SqlClient>
  /**
   * The last migration of the oldest program that still works once this one has run. By default it is the migration before, so that a
   * rollout can replace programs one by one.
   */
  readonly oldestProgram?: number | undefined
}

/** The schema cannot be used. The message is one line for an operator. */
export class SchemaError extends Schema.TaggedError<SchemaError>()("SchemaError", {
  message: Schema.String
}) {}

/** Runs the migrations that have not run yet. */
export const run = Effect.fnUntraced(function* (
  migrations: ReadonlyArray<Migration>
): Effect.fn.Return<void, SchemaError | SqlError.SqlError, SqlClient.SqlClient> {
  if (migrations.length === 0) return
  const newest = Math.max(...migrations.map(({ id }) => id))
  // the Migrator locks its table, for which a running backup would have to end
  if (yield* isMigrated(newest)) return yield* checkCompatibility(newest)
  const sql = yield* SqlClient.SqlClient
  const steps = migrations.map((migration) => [`${migration.id}_${migration.name}`, step(migration)])
  const run = migrate({ loader: Migrator.fromRecord(Object.fromEntries(steps)) })
  // the lock of SQLite, before anything is read
  yield* sql
    .onDialectOrElse({ pg: () => run, orElse: () => sql.withTransaction(run) })
    .pipe(Effect.catchTag("MigrationError", (error) => Effect.fail(reasonOf(error))))
  yield* checkCompatibility(newest)
})

/** Whether all migrations have run. */
const isMigrated = Effect.fnUntraced(
  function* (newest: number) {
    const sql = yield* SqlClient.SqlClient
    const [latest] = yield* sql<{
      readonly id: number | null
    }>`SELECT MAX(migration_id) AS id FROM effect_sql_migrations`
    return (latest?.id ?? 0) >= newest
  },
  Effect.orElseSucceed(() => false)
)

const migrate = Migrator.make({})

/** Runs a migration, and notes which programs still work. */
const step = ({ id, oldestProgram = id - 1, run }: Migration) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* run
    if (id === 1) yield* sql`CREATE TABLE schema_compatibility (oldest_program INTEGER NOT NULL)`
    yield* id === 1
      ? sql`INSERT INTO schema_compatibility (oldest_program) VALUES (${id})`
      : sql`UPDATE schema_compatibility SET oldest_program = ${oldestProgram} WHERE oldest_program < ${oldestProgram}`
  })

/** Fails if the schema is newer than this program, and does not support it any more. */
const checkCompatibility = Effect.fnUntraced(function* (newest: number) {
  const sql = yield* SqlClient.SqlClient
  const [latest] = yield* sql<{ readonly id: number; readonly oldest: number }>`
    SELECT MAX(migration_id) AS id, (SELECT oldest_program FROM schema_compatibility) AS oldest FROM effect_sql_migrations`
  if (latest !== undefined && latest.id > newest && latest.oldest > newest) {
    return yield* new SchemaError({
      message:
        `The database has migration ${latest.id}, which needs a program with migration ${latest.oldest} or a later one; ` +
        `this one ends with migration ${newest}`
    })
  }
})

/** The error of a failed migration: that of the database if it can pass. */
const reasonOf = ({ cause, message }: Migrator.MigrationError): SchemaError | SqlError.SqlError => {
  if (!SqlError.isSqlError(cause)) return new SchemaError({ message: `The schema cannot be migrated: ${message}` })
  if (sqlErrors.kindOf(cause) !== "bug") return cause
  return new SchemaError({ message: `The schema cannot be migrated: ${message}: ${sqlErrors.describe(cause)}` })
}
