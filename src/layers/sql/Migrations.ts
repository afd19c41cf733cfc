/**
 * Brings the schema of a database up to date, with Effect's Migrator: each migration runs once, in the order of their ids, one process at
 * a time.
 *
 * During a rollout two releases work on one schema. A database with migrations that a program does not know is refused by that program,
 * unless those migrations say that it still works with them.
 */
import { Effect, Schema } from "effect"
import { Migrator, SqlClient, type SqlError } from "effect/sql"

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
  yield* migrate({
    loader: Migrator.fromRecord(
      Object.fromEntries(migrations.map((migration) => [`${migration.id}_${migration.name}`, step(migration)]))
    )
  }).pipe(
    Effect.catchTag("MigrationError", (error) =>
      Effect.fail(new SchemaError({ message: `The schema cannot be migrated: ${reasonOf(error)}` }))
    )
  )
  yield* checkCompatibility(newest)
})

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

/** The innermost message of a failed migration. */
const reasonOf = (error: Migrator.MigrationError): string =>
  error.cause instanceof Error && error.cause.cause instanceof Error
    ? `${error.message}: ${error.cause.cause.message}`
    : error.message
