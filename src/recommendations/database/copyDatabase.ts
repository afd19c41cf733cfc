/**
 * Copies everything that the shop has stored from one database into another, such as from SQLite into PostgreSQL when there is to be more
 * than one replica.
 */
import { Context, Effect, Schema, Stream } from "effect"
import { SqlClient } from "effect/sql"

import { Database } from "../../layers/sql/Database.ts"
import { jsonRows } from "../../layers/sql/jsonRows.ts"
import * as searchIndex from "../catalog/searchIndex.ts"

/** The databases do not allow the copy. The message is one line; nothing was copied. */
export class CopyError extends Schema.TaggedError<CopyError>()("CopyError", { message: Schema.String }) {}

interface Table {
  readonly name: string
  /** With their types. */
  readonly columns: { readonly [column: string]: "SMALLINT" | "INTEGER" | "BIGINT" | "TEXT" }
  /** The column that the database assigns. */
  readonly identity?: string
}

/** The tables of the last migration. */
const tables: ReadonlyArray<Table> = [
  {
    name: "catalogs",
    columns: { catalog_id: "BIGINT", sha256: "TEXT", book_count: "INTEGER", imported_at: "BIGINT" },
    identity: "catalog_id"
  },
  {
    name: "books",
    columns: {
      book_id: "INTEGER",
      catalog_id: "BIGINT",
      title: "TEXT",
      authors: "TEXT",
      year: "INTEGER",
      isbn10: "TEXT",
      categories: "TEXT",
      folded_title: "TEXT",
      words: "TEXT"
    }
  },
  { name: "readers", columns: { user_id: "INTEGER", version: "BIGINT", forgotten_at: "BIGINT" } },
  { name: "reader_requests", columns: { request_id: "TEXT", user_id: "INTEGER" } },
  { name: "reader_ids", columns: { singleton: "INTEGER", next_id: "BIGINT" } },
  {
    name: "feedback",
    columns: {
      sequence: "BIGINT",
      feedback_id: "TEXT",
      user_id: "INTEGER",
      book_id: "INTEGER",
      kind: "SMALLINT",
      rating: "SMALLINT",
      happened_at: "BIGINT",
      recommendation_id: "TEXT"
    },
    identity: "sequence"
  },
  {
    name: "reader_books",
    columns: {
      user_id: "INTEGER",
      book_id: "INTEGER",
      kind: "SMALLINT",
      rating: "SMALLINT",
      happened_at: "BIGINT",
      sequence: "BIGINT"
    }
  }
]

/** A table, and the number of its rows. */
export interface CopiedTable {
  readonly table: string
  readonly rows: number
}

/** A database and its client. */
export type Connection = Context.Context<Database | SqlClient.SqlClient>

/**
 * Copies all tables into a database that has none of their rows, all or nothing, and compares the counts. The source must not be in use by
 * another process, and is locked until the end.
 */
export const copyDatabase = (source: Connection, target: Connection) => {
  const [from, to] = [Context.get(source, SqlClient.SqlClient), Context.get(target, SqlClient.SqlClient)]
  const copy = Effect.gen(function* () {
    yield* refuseOthers(from)
    yield* compareMigrations(from, to)
    yield* refuseRows(to)
    const copied: Array<CopiedTable> = []
    for (const table of tables) copied.push({ table: table.name, rows: yield* copyTable(table, from, to) })
    yield* searchIndex.complete(to)
    return copied
  })
  const { transaction: inSource } = Context.get(source, Database)
  const { transaction: inTarget } = Context.get(target, Database)
  const options = { timeout: copyTimeout } as const
  return inSource("database.copy", inTarget("database.copy", copy, options), options)
}

/** How long it may take to copy a large database. */
const copyTimeout = "1 day"

/** The number of rows that are inserted together. */
const batchSize = 2_000

/** Fails if another process uses the source, and keeps writers out. A file of SQLite is opened for one process alone. */
const refuseOthers = (sql: SqlClient.SqlClient) =>
  sql.onDialectOrElse({
    pg: () =>
      Effect.gen(function* () {
        yield* sql`LOCK TABLE ${sql.literal(tables.map(({ name }) => name).join(", "))} IN EXCLUSIVE MODE`
        const [row] = yield* sql<{ readonly count: number }>`SELECT COUNT(*) AS count FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND application_name = current_setting('application_name')`
        if (row!.count > 0) {
          return yield* new CopyError({
            message: `${row!.count} connections of Recommendations to the source are open: stop all replicas first`
          })
        }
      }),
    orElse: () => Effect.void
  })

const compareMigrations = Effect.fnUntraced(function* (from: SqlClient.SqlClient, to: SqlClient.SqlClient) {
  const newestOf = (sql: SqlClient.SqlClient) =>
    Effect.map(
      sql<{ readonly id: number }>`SELECT MAX(migration_id) AS id FROM effect_sql_migrations`,
      ([row]) => row!.id
    )
  const [source, target] = [yield* newestOf(from), yield* newestOf(to)]
  if (source !== target) {
    return yield* new CopyError({
      message: `The source has migration ${source} and the target migration ${target}: copy with the newest release`
    })
  }
})

const countOf = (sql: SqlClient.SqlClient, table: string) =>
  Effect.map(sql<{ readonly count: number }>`SELECT COUNT(*) AS count FROM ${sql(table)}`, ([row]) => row!.count)

const refuseRows = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  for (const { name } of tables) {
    // a new database has the next id of readers
    if (name !== "reader_ids" && (yield* countOf(sql, name)) > 0) {
      return yield* new CopyError({ message: `The target is not empty: its table ${name} has rows` })
    }
  }
})

/** Returns the number of rows. */
const copyTable = Effect.fnUntraced(function* (
  { columns, identity, name }: Table,
  from: SqlClient.SqlClient,
  to: SqlClient.SqlClient
) {
  const names = Object.keys(columns)
  const list = to.literal(names.join(", "))
  const overriding = to.onDialectOrElse({
    pg: () => to.literal(identity === undefined ? "" : "OVERRIDING SYSTEM VALUE"),
    orElse: () => to.literal("")
  })
  yield* to`DELETE FROM ${to(name)}`
  yield* from<Row>`SELECT ${from.literal(names.join(", "))} FROM ${from(name)} ORDER BY 1`.stream.pipe(
    Stream.grouped(batchSize),
    Stream.runForEach(
      (rows) => to`INSERT INTO ${to(name)} (${list}) ${overriding} SELECT ${list} FROM ${jsonRows(to, columns, rows)}`
    )
  )
  if (identity !== undefined) yield* continueAfterCopy(to, name, identity)
  const [source, target] = [yield* countOf(from, name), yield* countOf(to, name)]
  if (source !== target) {
    return yield* new CopyError({ message: `${name}: ${source} rows in the source, and ${target} in the target` })
  }
  return target
})

interface Row {
  readonly [column: string]: number | string | undefined
}

/** The next value of an identity column is above those that were copied. SQLite does that by itself. */
const continueAfterCopy = (sql: SqlClient.SqlClient, table: string, column: string) =>
  sql.onDialectOrElse({
    pg: () =>
      Effect.asVoid(
        sql`SELECT setval(pg_get_serial_sequence(${table}, ${column}), MAX(${sql(column)})) FROM ${sql(table)}
          HAVING COUNT(*) > 0`
      ),
    orElse: () => Effect.void
  })
