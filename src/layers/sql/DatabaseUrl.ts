/**
 * Parses DATABASE_URL: `sqlite:PATH`, `sqlite::memory:` or `postgres://user:password@host:port/name?sslmode=...`.
 */
import { Option, Redacted } from "effect"

import { isHost } from "../config/Address.ts"

export type DatabaseUrl = SqliteUrl | PostgresUrl

export interface SqliteUrl {
  readonly _tag: "Sqlite"
  /** A path, or ":memory:". */
  readonly filename: string
  /** Whether to keep other processes from using the file, and not to open it while one does. No URL says so. */
  readonly isExclusive?: boolean
}

/** The values of sslmode (https://www.postgresql.org/docs/current/libpq-ssl.html); the others of libpq fall back to plaintext. */
const sslModes = ["disable", "require", "verify-full"] as const

export interface PostgresUrl {
  readonly _tag: "Postgres"
  readonly host: string
  readonly port: number
  readonly database: string
  readonly username: string
  readonly password: Redacted.Redacted | undefined
  /** `require` encrypts without verifying the certificate; `verify-full` verifies the certificate and its host name. */
  readonly sslMode: (typeof sslModes)[number]
  /** The path of the CA's certificates; without it `verify-full` trusts the CAs of Node. */
  readonly sslRootCert: string | undefined
}

/** What {@link parse} accepts. */
export const expected =
  "sqlite:PATH, sqlite::memory: or postgres://user:password@host:port/name, optionally with ?sslmode=disable, require or verify-full " +
  "and &sslrootcert=PATH"

export const parse = (text: string): Option.Option<DatabaseUrl> => {
  const filename = /^sqlite:(?!\/\/)(.+)$/.exec(text)?.[1]
  if (filename !== undefined) return Option.some({ _tag: "Sqlite", filename })
  return parsePostgres(text)
}

const parsePostgres = (text: string): Option.Option<PostgresUrl> => {
  if (!/^postgres(?:ql)?:\/\/[^/]/.test(text) || !URL.canParse(text)) return Option.none()
  const { hash, hostname, password, pathname, port, searchParams, username } = new URL(text)
  const parameters = new Map(searchParams)
  const sslMode = sslModes.find((mode) => mode === (parameters.get("sslmode") ?? "disable"))
  const sslRootCert = parameters.get("sslrootcert")
  const isKnown = [...parameters.keys()].every((name) => name === "sslmode" || name === "sslrootcert")
  const [database, user, secret] = [pathname.slice(1), username, password].map(decode)
  const host = hostname.replace(/^\[(.*)\]$/, "$1")
  if (!database || !user || secret === undefined || sslMode === undefined) return Option.none()
  if (!isKnown || hash !== "" || !isHost(host) || (sslRootCert !== undefined && sslMode !== "verify-full")) {
    return Option.none()
  }
  return Option.some({
    _tag: "Postgres",
    host,
    port: port === "" ? 5432 : Number(port),
    database,
    username: user,
    password: secret === "" ? undefined : Redacted.make(secret),
    sslMode,
    sslRootCert
  })
}

/** Undoes the percent-encoding; undefined if it is invalid or contains U+0000. */
const decode = (text: string): string | undefined => {
  try {
    const decoded = decodeURIComponent(text)
    return decoded.includes("\0") ? undefined : decoded
  } catch {
    return undefined
  }
}

/** The database without its password, for messages. */
export const format = (url: DatabaseUrl): string =>
  url._tag === "Sqlite"
    ? `sqlite:${url.filename}`
    : `postgres://${url.username}@${url.host.includes(":") ? `[${url.host}]` : url.host}:${url.port}/${url.database}`
