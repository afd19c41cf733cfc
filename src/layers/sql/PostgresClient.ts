/**
 * The SqlClient of @effect/sql-pg, set up for this project: it also works through PgBouncer in transaction mode, so no statement is
 * named, and all time limits are set inside of transactions.
 */
import { readFile } from "node:fs/promises"
import net from "node:net"

import { PgClient, PgConnection, PgTypes } from "@effect/sql-pg"
import { Effect, Result, Schedule, type Scope, Stream } from "effect"
import type { Reactivity } from "effect/reactivity"
import type { SqlClient, SqlError } from "effect/sql"

import { SettingError } from "../config/Setting.ts"
import type { PostgresUrl } from "./DatabaseUrl.ts"
import { PostgresSockets } from "./PostgresSockets.ts"
import * as sqlErrors from "./sqlErrors.ts"

export interface Options {
  readonly url: PostgresUrl
  readonly maxConnections: number
}

export interface Postgres {
  readonly client: SqlClient.SqlClient
  /** Emits after the channel is listened to, and at each notification; fails when the connection is lost. */
  readonly listen: (channel: string) => Stream.Stream<void, SqlError.SqlError>
  /** Reaches the server on a connection of its own, so that it does not wait for those in use. */
  readonly probe: Effect.Effect<void, SqlError.SqlError>
  readonly sockets: PostgresSockets
}

/** Connects at the first use. */
export const make = Effect.fnUntraced(function* ({
  maxConnections,
  url
}: Options): Effect.fn.Return<Postgres, SettingError, Scope.Scope | Reactivity.Reactivity> {
  const sockets = new PostgresSockets()
  yield* Effect.forkScoped(
    Effect.repeat(
      Effect.sync(() => sockets.observe()),
      Schedule.spaced("1 second")
    )
  )
  const connection: PgConnection.Config = {
    stream: () => sockets.connect(url.host, url.port),
    host: url.host,
    port: url.port,
    database: url.database,
    username: url.username,
    password: url.password,
    ssl: yield* tlsOptions(url),
    applicationName: "online-books",
    prepare: false
  }
  // it connects at the first use, so it cannot fail here
  const client = yield* Effect.orDie(PgClient.make({ ...connection, maxConnections, types: numbersForInt8() }))
  const listen = (channel: string) =>
    Stream.unwrap(
      Effect.map(client.listen(channel), (queue) =>
        Stream.concat(
          Stream.succeed(undefined),
          Stream.map(Stream.fromQueue(queue), () => undefined)
        )
      )
    )
  const probe = Effect.scoped(Effect.flatMap(PgConnection.make(connection), ({ query }) => query("SELECT 1"))).pipe(
    Effect.asVoid,
    // a server with no room for the probe serves the open connections
    Effect.catchIf(
      (error) => sockets.size > 0 && sqlErrors.codeOf(error) === "53300",
      () => Effect.void
    )
  )
  return { client, listen, probe, sockets }
})

const tlsOptions = Effect.fnUntraced(function* ({ host, sslMode, sslRootCert }: PostgresUrl) {
  if (sslMode === "disable") return false
  const servername = net.isIP(host) === 0 ? { servername: host } : {}
  if (sslMode === "require") return { ...servername, rejectUnauthorized: false }
  if (sslRootCert === undefined) return { ...servername, host, rejectUnauthorized: true }
  const ca = yield* Effect.tryPromise({
    try: () => readFile(sslRootCert, "utf8"),
    catch: () =>
      new SettingError({
        variable: "DATABASE_URL",
        value: `sslrootcert=${sslRootCert}`,
        expected: "the path of a file that can be read"
      })
  })
  return { ...servername, host, ca, rejectUnauthorized: true }
})

/** Reads BIGINT as a number, as SQLite does. No value of the project's exceeds 2^53. */
const numbersForInt8 = (): PgTypes.Registry => {
  const registry = PgTypes.makeRegistry()
  registry.register<number | bigint>(
    PgTypes.OID.int8,
    {
      encode: (value) => {
        const bytes = new Uint8Array(8)
        new DataView(bytes.buffer).setBigInt64(0, BigInt(value))
        return Result.succeed(bytes)
      },
      decode: (bytes) =>
        Result.succeed(Number(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigInt64(0)))
    },
    { arrayOid: PgTypes.OID.int8Array }
  )
  return registry
}
