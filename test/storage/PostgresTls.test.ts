import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { afterAll, beforeAll } from "vitest"

import { issue, makeAuthority } from "../../scripts/certificates.ts"
import type { PostgresUrl } from "../../src/layers/sql/DatabaseUrl.ts"
import { Postgres, unprivileged } from "./Postgres.ts"
import { recordLines } from "./RecordedLines.ts"
import { connect, postgresUrl } from "./StorageTest.ts"

const isEncrypted = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ readonly ssl: boolean }>`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`,
    ([row]) => row!.ssl
  )
)

const noMigration = { id: 1, name: "nothing", run: Effect.void }

describe("PostgreSQL over TLS", () => {
  let server: Postgres
  let url: PostgresUrl
  let folder: string
  const file = (name: string) => path.join(folder, name)
  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "postgres-tls-"))
    chmodSync(folder, 0o755)
    const authority = await makeAuthority()
    const { cert, key } = await issue(authority, { names: ["DNS:localhost"], usage: "server" })
    const other = await makeAuthority({ commonName: "Another CA" })
    for (const [name, text] of Object.entries({ "ca.pem": authority.cert, "other.pem": other.cert, cert, key })) {
      writeFileSync(file(name), text, { mode: 0o600 })
      const { gid, uid } = unprivileged()
      if (uid !== undefined && gid !== undefined) chownSync(file(name), uid, gid)
    }
    server = await Postgres.start({ ssl: "on", ssl_cert_file: file("cert"), ssl_key_file: file("key") })
    url = { ...postgresUrl(server.port, "postgres"), host: "localhost" }
  })
  afterAll(async () => {
    await server.remove()
    rmSync(folder, { recursive: true })
  })

  it.live("is encrypted as sslmode says", () =>
    Effect.gen(function* () {
      const encrypted = (settings: Partial<PostgresUrl>) =>
        Effect.scoped(Effect.provide(isEncrypted, connect({ ...url, ...settings }, [noMigration])))
      assert.isFalse(yield* encrypted({ sslMode: "disable" }))
      assert.isTrue(yield* encrypted({ sslMode: "require" }))
      assert.isTrue(yield* encrypted({ sslMode: "require", host: "127.0.0.1" }))
      assert.isTrue(yield* encrypted({ sslMode: "verify-full", sslRootCert: file("ca.pem") }))
    })
  )

  it.live.each([
    ["of another authority", { sslRootCert: "other.pem" }, /certificate/],
    ["of none of Node's authorities", {}, /certificate/],
    ["for another name", { host: "127.0.0.1", sslRootCert: "ca.pem" }, /IP: 127\.0\.0\.1 is not in the cert's list/]
  ] as ReadonlyArray<readonly [string, Partial<PostgresUrl>, RegExp]>)(
    "is refused by verify-full with a certificate %s",
    ([, settings, expected]) =>
      Effect.scoped(
        Effect.gen(function* () {
          const { layer, lines } = recordLines()
          const sslRootCert = settings.sslRootCert === undefined ? undefined : file(settings.sslRootCert)
          const wrong = { ...url, sslMode: "verify-full", ...settings, sslRootCert } as const
          const built = yield* Effect.forkScoped(
            Layer.build(connect(wrong, [noMigration]).pipe(Layer.provideMerge(layer)))
          )
          assert.match(String((yield* Queue.take(lines)).reason), expected)
          yield* Fiber.interrupt(built)
        })
      )
  )

  it.live("needs a readable file of authorities", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const wrong = { ...url, sslMode: "verify-full", sslRootCert: file("nowhere.pem") } as const
        const error = yield* Effect.flip(Layer.build(connect(wrong, [noMigration])))
        assert.match(
          error.message,
          /^DATABASE_URL="sslrootcert=\/.*nowhere\.pem": expected the path of a file that can be read$/
        )
      })
    )
  )
})
