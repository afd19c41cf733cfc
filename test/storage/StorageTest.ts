/**
 * Suites that run on both databases: on SQLite in the project `storage`, and on PostgreSQL in `storage-postgres`.
 */
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"

import { describe } from "@effect/vitest"
import { Duration, Effect, Layer, Redacted, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"

import { ProjectRoot } from "../../src/layers/config/ProjectRoot.ts"
import * as Database from "../../src/layers/sql/Database.ts"
import type { DatabaseUrl, PostgresUrl } from "../../src/layers/sql/DatabaseUrl.ts"
import type { Migration } from "../../src/layers/sql/Migrations.ts"
import { migrations as shopMigrations } from "../../src/recommendations/database/migrations.ts"
import { password } from "./Postgres.ts"

/** An empty database for one test. */
export interface Storage {
  readonly system: "sqlite" | "postgresql"
  /** Whether `Database.listen` emits. */
  readonly hasNotifications: boolean
  /** The URL of a new database without tables, which is deleted when the scope closes. */
  readonly fresh: Effect.Effect<DatabaseUrl, never, Scope.Scope>
}

export type Provided = Database.Database | SqlClient.SqlClient

/** A process's connection to a database, with its schema up to date. */
export const connect = (url: DatabaseUrl, migrations: ReadonlyArray<Migration> = shopMigrations) =>
  Database.Database.layer({ url, maxConnections: 10, timeout: Duration.seconds(20) }, migrations).pipe(
    Layer.provide(Layer.succeed(ProjectRoot, ProjectRoot.of({ resolve: (file) => file })))
  )

/** The text of a URL, for the setting DATABASE_URL of a process. */
export const format = (url: DatabaseUrl): string =>
  url._tag === "Sqlite"
    ? `sqlite:${url.filename}`
    : `postgres://${url.username}:${encodeURIComponent(password)}@${url.host}:${url.port}/${url.database}`

/** In a file. */
export const sqlite: Storage = {
  system: "sqlite",
  hasNotifications: false,
  fresh: Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(path.join(tmpdir(), "sqlite-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    ),
    (folder) => ({ _tag: "Sqlite", filename: path.join(folder, "books.db") })
  )
}

/** A database of a running server. */
export const postgresUrl = (port: number, database: string): PostgresUrl => ({
  _tag: "Postgres",
  host: "127.0.0.1",
  port,
  database,
  username: "shop",
  password: Redacted.make(password),
  sslMode: "disable",
  sslRootCert: undefined
})

const postgres = (port: number, poolerPort = port): Storage => {
  const administer = (statement: string) =>
    Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(
      Effect.provide(connect(postgresUrl(port, "postgres"), [])),
      Effect.scoped,
      Effect.orDie
    )
  return {
    system: "postgresql",
    hasNotifications: poolerPort === port,
    fresh: Effect.gen(function* () {
      const database = `test_${randomUUID().replaceAll("-", "")}`
      yield* Effect.acquireRelease(administer(`CREATE DATABASE ${database}`), () =>
        administer(`DROP DATABASE ${database} WITH (FORCE)`)
      )
      return postgresUrl(poolerPort, database)
    })
  }
}

/** Defines tests for the database of the project that runs. */
export const describeStorage = (title: string, tests: (storage: Storage) => void): void => {
  const port = inject("postgresPort")
  const storage = port === undefined ? sqlite : postgres(port, inject("poolerPort"))
  describe(`${title} on ${storage.system}`, () => tests(storage))
}
