/**
 * A SqlClient of Effect for SQLite, by `node:sqlite` in a thread of its own, so that no statement blocks the event loop.
 *
 * Statements and transactions take turns on one connection. The thread runs commands in the order in which they were sent, so a statement
 * is sent without waiting for those before it. Streams of a file read on a second connection, which sees the last committed
 * state and does not wait for transactions. An interrupted statement that was sent runs to its end in the thread; its result is
 * dropped.
 */
import { Worker } from "node:worker_threads"

import { Array, Effect, Fiber, type Scope, Semaphore, Stream } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient, type SqlConnection, SqlError, Statement } from "effect/sql"

import type { Command, ConnectionName, Options, Reply, Rows, ThreadOptions } from "./sqliteThread.ts"

/** Beside this file, or beside its bundle. */
const threadFile = import.meta.url.endsWith(".ts") ? "./sqliteThread.ts" : "./sqliteThread.js"

/** A client for a database file, which is made where it is missing, or for `:memory:`. */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<SqlClient.SqlClient, never, Scope.Scope | Reactivity.Reactivity> {
  const hasReader = options.filename !== ":memory:" && !options.isExclusive
  const threads = yield* makeThreads({ ...options, hasReader })
  const mainLock = Semaphore.makeUnsafe(1)
  const main = SqlClient.makeSqliteAcquirers({
    connection: Effect.map(threads, (thread) => new Connection(thread, "main")),
    semaphore: mainLock,
    isTransaction
  })
  const reader = SqlClient.makeSqliteAcquirers({
    connection: Effect.map(threads, (thread) => new Connection(thread, "reader")),
    semaphore: hasReader ? Semaphore.makeUnsafe(1) : mainLock
  })
  return yield* SqlClient.make({
    // streams use the acquirer, and statements the borrower
    acquirer: reader.acquirer,
    borrower: (use) => Effect.flatten(main.borrower((connection) => started(use(connection)))),
    transactionAcquirer: main.transactionAcquirer,
    onCommitFailure: main.onCommitFailure,
    isTransaction: main.isTransaction,
    compiler: Statement.makeCompilerSqlite(),
    driver: "node:sqlite",
    // takes the lock for writing at once: a transaction that reads first could not wait for it later
    beginTransaction: "BEGIN IMMEDIATE",
    spanAttributes: [["db.system.name", "sqlite"]]
  })
})

/** Starts a statement, which sends it, and returns the effect that waits for its result. */
const started = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Effect.Effect<A, E>, never, R> =>
  Effect.map(Effect.forkChild(effect, { startImmediately: true }), (fiber) =>
    Effect.onInterrupt(Fiber.join(fiber), () => Fiber.interrupt(fiber))
  )

const isTransaction = (connection: Connection) => connection.isTransaction

/** The running thread. One that failed is replaced at the next use; what it was running fails. */
const makeThreads = (
  options: ThreadOptions
): Effect.Effect<Effect.Effect<Thread, SqlError.SqlError>, never, Scope.Scope> =>
  Effect.gen(function* () {
    let current: Thread | undefined
    const opening = Semaphore.makeUnsafe(1)
    const open = Effect.suspend(() => {
      if (current?.isAlive === true) return Effect.succeed(current)
      const thread = new Thread(options)
      return Effect.map(thread.opened, () => (current = thread))
    })
    yield* Effect.addFinalizer(() => Effect.promise(async () => current?.close()))
    return Effect.suspend(() => (current?.isAlive === true ? Effect.succeed(current) : opening.withPermit(open)))
  })

/** The number of commands that the thread has at most. The others wait here, so that those that are interrupted are not run. */
const maxSent = 64

/** A command that waits to be sent. */
interface Waiting {
  readonly command: Command
  readonly onReply: (reply: Reply) => void
  isInterrupted: boolean
}

/** Sends commands to a thread, which answers them in their order. */
class Thread {
  isAlive = true
  /** Whether a transaction was open on the main connection after the last command. */
  isTransaction = false
  readonly opened: Effect.Effect<void, SqlError.SqlError>
  readonly #worker: Worker
  readonly #exited: Promise<void>
  readonly #waiting: Waiting[] = []
  /** Of the commands that were sent. */
  readonly #callbacks: Waiting["onReply"][] = []

  constructor(options: ThreadOptions) {
    this.#worker = new Worker(new URL(threadFile, import.meta.url), { name: "sqlite", workerData: options })
    const first = new Promise<Reply>((resolve) => this.#callbacks.push(resolve))
    this.opened = Effect.flatMap(
      Effect.promise(() => first),
      resultOf
    )
    this.#exited = new Promise((resolve) => {
      this.#worker.once("exit", () => {
        this.#fail("The thread of SQLite has ended")
        resolve()
      })
    })
    this.#worker.on("message", (reply: Reply) => {
      this.isTransaction = reply.isTransaction
      this.#callbacks.shift()!(reply)
      this.#sendNext()
    })
    this.#worker.on("error", (error) => this.#fail(error instanceof Error ? error.message : String(error)))
  }

  send(command: Command): Effect.Effect<unknown, SqlError.SqlError> {
    return Effect.callback<Reply>((resume) => {
      if (!this.isAlive) return resume(Effect.succeed(ended))
      const waiting = this.#add(command, (reply) => resume(Effect.succeed(reply)))
      return Effect.sync(() => {
        waiting.isInterrupted = true
      })
    }).pipe(Effect.flatMap(resultOf))
  }

  /** Resolves after the commands before it were run and the file is closed. */
  async close(): Promise<void> {
    if (this.isAlive) this.#add({ _tag: "End" }, () => {})
    await this.#exited
  }

  #add(command: Command, onReply: Waiting["onReply"]): Waiting {
    const waiting = { command, onReply, isInterrupted: false }
    this.#waiting.push(waiting)
    this.#sendNext()
    return waiting
  }

  #sendNext(): void {
    while (this.isAlive && this.#callbacks.length < maxSent) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      if (next.isInterrupted) continue
      this.#callbacks.push(next.onReply)
      this.#worker.postMessage(next.command)
    }
  }

  #fail(message: string): void {
    this.isAlive = false
    this.isTransaction = false
    const waiting = this.#waiting.splice(0).map(({ onReply }) => onReply)
    for (const onReply of [...this.#callbacks.splice(0), ...waiting]) onReply(failure(message))
  }
}

/** SQLITE_CANTOPEN, which counts as a failure of the connection. */
const cantOpen = 14

const failure = (message: string): Reply => ({ failure: { message, errno: cantOpen }, isTransaction: false })

const ended = failure("The thread of SQLite has ended")

const resultOf = (reply: Reply): Effect.Effect<unknown, SqlError.SqlError> => {
  if ("value" in reply) return Effect.succeed(reply.value)
  const cause = Object.assign(new Error(reply.failure.message), { errno: reply.failure.errno })
  return Effect.fail(new SqlError.SqlError({ reason: SqlError.classifySqliteError(cause, { message: cause.message }) }))
}

type TransformRows = Parameters<SqlConnection.Connection["execute"]>[2]

let cursors = 0

class Connection implements SqlConnection.Connection {
  readonly #thread: Thread
  readonly #name: ConnectionName

  constructor(thread: Thread, name: ConnectionName) {
    this.#thread = thread
    this.#name = name
  }

  get isTransaction(): boolean {
    return this.#thread.isTransaction
  }

  execute(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    const rows = Effect.map(this.#rows(sql, params), toObjects)
    return transformRows === undefined ? rows : Effect.map(rows, transformRows)
  }

  /** Gives the number of changed rows as `rowCount`, as the client of PostgreSQL does. */
  executeRaw(sql: string, params: ReadonlyArray<unknown>) {
    return Effect.map(this.#thread.send({ _tag: "Run", connection: this.#name, sql, params }), (rowCount) => ({
      rowCount
    }))
  }

  executeStream(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    const cursor = cursors++
    const open = this.#thread.send({ _tag: "Open", connection: this.#name, sql, params, cursor })
    const close = Effect.ignore(this.#thread.send({ _tag: "Close", cursor }))
    const fetch = Effect.map(this.#thread.send({ _tag: "Fetch", cursor }), (rows) => toObjects(rows as Rows))
    const rows = Stream.fromEffectRepeat(fetch).pipe(
      Stream.takeWhile(Array.isReadonlyArrayNonEmpty),
      Stream.map((rows) => (transformRows === undefined ? rows : (transformRows(rows) as typeof rows))),
      Stream.flattenArray
    )
    return Stream.unwrap(
      Effect.as(
        Effect.acquireRelease(open, () => close),
        rows
      )
    )
  }

  executeValues(sql: string, params: ReadonlyArray<unknown>) {
    return Effect.map(this.#rows(sql, params), ({ values }) => values)
  }

  executeValuesUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return this.executeValues(sql, params)
  }

  executeUnprepared(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    return this.execute(sql, params, transformRows)
  }

  #rows(sql: string, params: ReadonlyArray<unknown>) {
    return this.#thread.send({ _tag: "Rows", connection: this.#name, sql, params }) as Effect.Effect<
      Rows,
      SqlError.SqlError
    >
  }
}

const toObjects = ({ columns, values }: Rows): ReadonlyArray<object> =>
  values.map((row) => {
    const object: { [column: string]: unknown } = {}
    for (let index = 0; index < columns.length; index++) object[columns[index]!] = row[index]
    return object
  })
