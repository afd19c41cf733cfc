/**
 * A thread in which node:sqlite works, since its calls block. It has one connection, and runs one command after the other, in the order in
 * which they arrive. {@link SqliteClient} starts it and sends the commands; a bundle has it as a file of its own.
 */
import { closeSync, existsSync, mkdirSync, openSync } from "node:fs"
import { dirname } from "node:path"
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from "node:sqlite"
import { type MessagePort, workerData } from "node:worker_threads"

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
  /** {@link Rows}. */
  | (Query & { readonly _tag: "Rows" })
  /** The number of changed rows. */
  | (Query & { readonly _tag: "Run" })
  /** Begins to read rows. */
  | (Query & { readonly _tag: "Open"; readonly cursor: number })
  /** The next {@link Rows} of a cursor; none at the end. */
  | { readonly _tag: "Fetch"; readonly cursor: number }
  | { readonly _tag: "Close"; readonly cursor: number }
  /** Closes the database and ends the thread. */
  | { readonly _tag: "End" }

/** The names of columns, and rows as arrays, which are passed between threads in less time than objects. */
export interface Rows {
  readonly columns: ReadonlyArray<string>
  readonly values: ReadonlyArray<ReadonlyArray<unknown>>
}

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

/** A statement that returns arrays. */
interface Prepared {
  readonly statement: StatementSync
  readonly columns: ReadonlyArray<string>
}

interface Cursor {
  readonly columns: ReadonlyArray<string>
  readonly rows: Iterator<Array<SQLOutputValue>>
}

class Connection {
  readonly #database: DatabaseSync
  readonly #prepared = new Map<string, Prepared>()
  readonly #cursors = new Map<number, Cursor>()

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
      case "Rows": {
        const { columns, statement } = this.#cached(command.sql)
        return { columns, values: valuesOf(statement.all(...parameters(command))) } satisfies Rows
      }
      case "Run":
        return this.#cached(command.sql).statement.run(...parameters(command)).changes
      case "Open": {
        // not one that is shared: while it is read, it cannot be used again
        const { columns, statement } = this.#prepare(command.sql)
        const rows = statement.iterate(...parameters(command)) as unknown as Cursor["rows"]
        this.#cursors.set(command.cursor, { columns, rows })
        return undefined
      }
      case "Fetch":
        return fetchRows(this.#cursors.get(command.cursor)!)
      case "Close":
        this.#cursors.get(command.cursor)?.rows.return?.()
        this.#cursors.delete(command.cursor)
        return undefined
      case "End":
        return this.#database.close()
    }
  }

  #prepare(sql: string): Prepared {
    const statement = this.#database.prepare(sql, { returnArrays: true })
    return { statement, columns: statement.columns().map(({ name }) => name) }
  }

  /** A prepared statement, of which the least recently used ones are dropped. */
  #cached(sql: string): Prepared {
    const prepared = this.#prepared.get(sql) ?? this.#prepare(sql)
    this.#prepared.delete(sql)
    this.#prepared.set(sql, prepared)
    if (this.#prepared.size > maxStatements) this.#prepared.delete(this.#prepared.keys().next().value!)
    return prepared
  }
}

/** Makes the file where it is missing, for its owner alone: what readers said is personal. Its log gets the same mode. */
const prepareFile = (filename: string): void => {
  mkdirSync(dirname(filename), { recursive: true })
  if (!existsSync(filename)) closeSync(openSync(filename, "a", 0o600))
}

const fetchRows = ({ columns, rows }: Cursor): Rows => {
  const values: Array<ReadonlyArray<unknown>> = []
  while (values.length < fetchSize) {
    const next = rows.next()
    if (next.done === true) break
    values.push(next.value)
  }
  return { columns, values }
}

/** Statements return arrays; the types of Node do not tell. */
const valuesOf = (rows: unknown) => rows as Rows["values"]

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

/** What the thread is started with. Node uses its own port for messages too, such as with `--watch`. */
export interface ThreadData {
  readonly options: Options
  readonly port: MessagePort
}

const serve = ({ options, port }: ThreadData) => {
  const reply = (outcome: Outcome<unknown>, isTransaction: boolean) =>
    port.postMessage({ ...outcome, isTransaction } satisfies Reply)
  const opened = attempt(() => new Connection(options), cantOpen)
  if ("failure" in opened) {
    // the thread ends after the client has read why, at its next command
    port.on("message", () => port.close())
    return reply(opened, false)
  }
  const connection = opened.value
  port.on("message", (command: Command) => {
    const outcome = attempt(() => connection.run(command), otherError)
    reply(outcome, connection.isTransaction)
    if (command._tag === "End") port.close()
  })
  reply({ value: undefined }, false)
}

serve(workerData as ThreadData)
