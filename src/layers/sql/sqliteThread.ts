/**
 * A thread in which node:sqlite works, since its calls block. It has one connection, and runs one command after the other, in the order in
 * which they arrive. {@link SqliteClient} starts it and sends the commands; a bundle has it as a file of its own.
 */
import { closeSync, existsSync, mkdirSync, openSync } from "node:fs"
import { dirname } from "node:path"
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from "node:sqlite"
import { type MessagePort, parentPort, workerData } from "node:worker_threads"

export interface Options {
  /** A path, or ":memory:". */
  readonly filename: string
  /** Whether to keep other processes from using the file, and not to open it while one does. */
  readonly isExclusive: boolean
  /** Whether writes are refused. */
  readonly isReader: boolean
}

interface Query {
  readonly sql: string
  readonly params: ReadonlyArray<unknown>
}

export type Command =
  /** The rows as objects. */
  | (Query & { readonly _tag: "Rows" })
  /** The rows as arrays. */
  | (Query & { readonly _tag: "Values" })
  /** The number of changed rows. */
  | (Query & { readonly _tag: "Run" })
  /** Begins to read rows as objects. */
  | (Query & { readonly _tag: "Open"; readonly cursor: number })
  /** The next rows of a cursor; none at the end. */
  | { readonly _tag: "Fetch"; readonly cursor: number }
  | { readonly _tag: "Close"; readonly cursor: number }
  /** Closes the database and ends the thread. */
  | { readonly _tag: "End" }

/** `errno` is the extended result code of SQLite (https://sqlite.org/rescode.html). */
export interface Failure {
  readonly message: string
  readonly errno: number
}

type Outcome<A> = { readonly value: A } | { readonly failure: Failure }

/**
 * The answer to a command, and whether a transaction is open: SQLite rolls back by itself after some errors. The first answer says that
 * the database is open, or why not.
 */
export type Reply = Outcome<unknown> & { readonly isTransaction: boolean }

/** The number of statements that stay prepared. */
const maxStatements = 100

/** The number of rows of a cursor that are sent together. */
const fetchSize = 1_000

/** How long to wait for the lock of another process while the file is opened, in milliseconds. */
const openTimeout = 1_000

/** The same for statements. It is short, because the thread does nothing else meanwhile; the client tries again. */
const busyTimeout = 10

type Rows = Iterator<Record<string, SQLOutputValue>>

class Connection {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  readonly #cursors = new Map<number, Rows>()

  constructor({ filename, isExclusive, isReader }: Options) {
    if (filename !== ":memory:") prepareFile(filename)
    this.#database = new DatabaseSync(filename, { timeout: openTimeout })
    if (isExclusive) this.#database.exec("PRAGMA locking_mode = EXCLUSIVE")
    this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON")
    if (isReader) this.#database.exec("PRAGMA query_only = ON")
    this.#database.exec(`PRAGMA busy_timeout = ${busyTimeout}`)
  }

  get isTransaction(): boolean {
    return this.#database.isOpen && this.#database.isTransaction
  }

  run(command: Command): unknown {
    switch (command._tag) {
      case "Rows":
        return this.#prepare(command.sql, false).all(...parameters(command))
      case "Values":
        return this.#prepare(command.sql, true).all(...parameters(command))
      case "Run":
        return this.#prepare(command.sql, false).run(...parameters(command)).changes
      case "Open":
        // not one that is shared: while it is read, it cannot be used again
        this.#cursors.set(command.cursor, this.#database.prepare(command.sql).iterate(...parameters(command)))
        return undefined
      case "Fetch":
        return fetchRows(this.#cursors.get(command.cursor)!)
      case "Close":
        this.#cursors.get(command.cursor)?.return?.()
        this.#cursors.delete(command.cursor)
        return undefined
      case "End":
        return this.#database.close()
    }
  }

  /** A prepared statement, of which the least recently used ones are dropped. */
  #prepare(sql: string, returnArrays: boolean): StatementSync {
    const key = `${returnArrays} ${sql}`
    const statement = this.#statements.get(key) ?? this.#database.prepare(sql, { returnArrays })
    this.#statements.delete(key)
    this.#statements.set(key, statement)
    if (this.#statements.size > maxStatements) this.#statements.delete(this.#statements.keys().next().value!)
    return statement
  }
}

/** Makes the file where it is missing, for its owner alone: what readers said is personal. Its log gets the same mode. */
const prepareFile = (filename: string): void => {
  mkdirSync(dirname(filename), { recursive: true })
  if (!existsSync(filename)) closeSync(openSync(filename, "a", 0o600))
}

const fetchRows = (rows: Rows): ReadonlyArray<unknown> => {
  const fetched: Array<unknown> = []
  while (fetched.length < fetchSize) {
    const next = rows.next()
    if (next.done === true) break
    fetched.push(next.value)
  }
  return fetched
}

const parameters = ({ params }: Query) => params as ReadonlyArray<SQLInputValue>

/** SQLITE_CANTOPEN, for a folder that cannot be made, and SQLITE_ERROR. */
const [cantOpen, otherError] = [14, 1]

const attempt = <A>(evaluate: () => A, fallback: number): Outcome<A> => {
  try {
    return { value: evaluate() }
  } catch (error) {
    const { errcode = fallback, message } = error as Error & { readonly errcode?: number }
    return { failure: { message, errno: errcode } }
  }
}

const serve = (port: MessagePort) => {
  const reply = (outcome: Outcome<unknown>, isTransaction: boolean) =>
    port.postMessage({ ...outcome, isTransaction } satisfies Reply)
  const opened = attempt(() => new Connection(workerData as Options), cantOpen)
  if ("failure" in opened) return reply(opened, false)
  const connection = opened.value
  port.on("message", (command: Command) => {
    const outcome = attempt(() => connection.run(command), otherError)
    reply(outcome, connection.isTransaction)
    if (command._tag === "End") port.close()
  })
  reply({ value: undefined }, false)
}

if (parentPort !== null) serve(parentPort)
