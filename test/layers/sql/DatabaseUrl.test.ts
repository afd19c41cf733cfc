import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Option, Redacted } from "effect"

import * as Database from "../../../src/layers/sql/Database.ts"
import * as DatabaseUrl from "../../../src/layers/sql/DatabaseUrl.ts"

describe("DATABASE_URL", () => {
  const parsed = (text: string) => Option.getOrUndefined(DatabaseUrl.parse(text))

  it("names a file or memory of SQLite", () => {
    assert.deepStrictEqual(parsed("sqlite:var/books.db"), { _tag: "Sqlite", filename: "var/books.db" })
    assert.deepStrictEqual(parsed("sqlite:/a folder/books.db"), { _tag: "Sqlite", filename: "/a folder/books.db" })
    assert.deepStrictEqual(parsed("sqlite::memory:"), { _tag: "Sqlite", filename: ":memory:" })
  })

  it("names a database of PostgreSQL", () => {
    const url = parsed("postgresql://sh%40p:p%2Fw@[::1]:5433/my%20books?sslmode=verify-full&sslrootcert=/ca.pem")
    assert.isTrue(url?._tag === "Postgres")
    const { password, ...rest } = url as DatabaseUrl.PostgresUrl
    assert.strictEqual(Redacted.value(password!), "p/w")
    assert.deepStrictEqual(rest, {
      _tag: "Postgres",
      host: "::1",
      port: 5433,
      database: "my books",
      username: "sh@p",
      sslMode: "verify-full",
      sslRootCert: "/ca.pem"
    })
    const short = parsed("postgres://shop@database/books")
    assert.deepStrictEqual(short, {
      _tag: "Postgres",
      host: "database",
      port: 5432,
      database: "books",
      username: "shop",
      password: undefined,
      sslMode: "disable",
      sslRootCert: undefined
    })
  })

  it.each([
    "books.db",
    "sqlite:",
    "sqlite://books.db",
    "mysql://shop@host/books",
    "postgres://host/books",
    "postgres://shop:secret@host",
    "postgres://shop:secret@host/",
    "postgres://shop:secret@/books",
    "postgres:///books",
    "postgres://shop:secret@host:99999/books",
    "postgres://shop:secret@host:port/books",
    "postgres://shop:se%zzcret@host/books",
    "postgres://shop:se%00cret@host/books",
    "postgres://shop:secret@host/books?sslmode=prefer",
    "postgres://shop:secret@host/books?sslmode=require&sslrootcert=/ca.pem",
    "postgres://shop:secret@host/books?pool=3",
    "postgres://shop:secret@host/books#fragment",
    "postgres://localhost/books?user=shop&password=secret",
    "jdbc:postgresql://localhost/books?user=shop&password=secret",
    "postgres://shop:secret/books",
    "host=localhost user=shop password=secret"
  ])("refuses %s, and does not repeat a password", (text) =>
    Effect.gen(function* () {
      assert.isUndefined(parsed(text))
      const error = yield* Database.settings
        .parse(ConfigProvider.fromEnv({ env: { DATABASE_URL: text } }))
        .pipe(Effect.flip)
      assert.match(error.message, /^DATABASE_URL=.+: expected sqlite:PATH, sqlite::memory: or postgres:\/\//)
      assert.notInclude(error.message, "secret")
    }).pipe(Effect.runPromise)
  )
})
