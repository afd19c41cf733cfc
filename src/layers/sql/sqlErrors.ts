/**
 * Explains errors of databases to operators, and tells those that pass from those that are bugs.
 */
import type { SqlError } from "effect/sql"

/**
 * - `outage`: the database cannot be reached; all statements fail.
 * - `failure`: it refused this statement for a reason outside of the program, such as a lock or a full disk.
 * - `bug`: the statement is wrong.
 */
export type Kind = "outage" | "failure" | "bug"

/** Primary result codes of SQLite (https://sqlite.org/rescode.html). */
const sqliteProblems: { readonly [code: number]: readonly [Kind, string] } = {
  5: ["failure", "the file is locked by another process"],
  6: ["failure", "a table is locked"],
  7: ["failure", "out of memory"],
  8: ["failure", "the file cannot be written"],
  10: ["failure", "the disk failed"],
  11: ["failure", "the file is corrupt"],
  13: ["failure", "the disk is full"],
  14: ["outage", "the file cannot be opened"],
  15: ["failure", "the locking protocol of the file failed"],
  26: ["failure", "the file is not a SQLite database"]
}

/** SQLSTATE codes and their classes (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const postgresProblems: { readonly [code: string]: readonly [Kind, string] } = {
  "08": ["outage", "the connection failed"],
  "25006": ["failure", "the database is read-only"],
  "25P03": ["failure", "the transaction took too long"],
  "25P04": ["failure", "the transaction took too long"],
  "28": ["outage", "the user or the password is wrong"],
  "3D000": ["outage", "there is no such database"],
  "40": ["failure", "the transaction conflicts with others"],
  "42501": ["failure", "the user lacks a privilege"],
  "53": ["failure", "the server lacks resources"],
  "53100": ["failure", "the disk of the server is full"],
  "53300": ["outage", "the server has too many connections"],
  "55": ["failure", "something is in use"],
  "55P03": ["failure", "a lock was not released in time"],
  "57014": ["failure", "the statement took too long"],
  "57": ["outage", "the server is shutting down or starting"],
  "58": ["failure", "the disk of the server failed"],
  XX000: ["failure", "the server has an internal error"],
  XX001: ["failure", "the data is corrupt"],
  XX002: ["failure", "an index is corrupt"]
}

const problemOf = ({ reason }: SqlError.SqlError): readonly [Kind, string] => {
  const { code, errno } = causeOf(reason)
  const byCode =
    typeof errno === "number" && (code === undefined || code === "ERR_SQLITE_ERROR")
      ? sqliteProblems[errno & 0xff]
      : typeof code === "string"
        ? (postgresProblems[code] ?? postgresProblems[code.slice(0, 2)])
        : undefined
  if (byCode !== undefined) return byCode
  return reason._tag === "ConnectionError" ? ["outage", "the connection failed"] : ["bug", "the statement failed"]
}

interface Cause {
  readonly code?: unknown
  readonly errno?: unknown
  readonly message?: unknown
}

/** The error of the driver. Errors of sockets wrap those of Node. */
const causeOf = ({ cause }: SqlError.SqlErrorReason): Cause =>
  typeof cause === "object" && cause !== null ? (cause as Cause) : {}

/** The code of the driver: SQLSTATE of PostgreSQL, or the extended result code of SQLite. */
export const codeOf = ({ reason }: SqlError.SqlError): unknown => causeOf(reason).code ?? causeOf(reason).errno

export const kindOf = (error: SqlError.SqlError): Kind => problemOf(error)[0]

/** A line for an operator. It contains no values of the statement and no password. */
export const describe = (error: SqlError.SqlError): string => {
  const [, problem] = problemOf(error)
  const { message } = causeOf(error.reason)
  return typeof message === "string" && message !== "" ? `${problem} (${message})` : problem
}

/** Whether a lock was not released in time. */
export const isLocked = ({ reason }: SqlError.SqlError): boolean => reason._tag === "LockTimeoutError"

/** Whether a transaction that failed can be run again: the database chose it to resolve a conflict. */
export const isConflict = ({ reason }: SqlError.SqlError): boolean =>
  reason._tag === "DeadlockError" || reason._tag === "SerializationError"
