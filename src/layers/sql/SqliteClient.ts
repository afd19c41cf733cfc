/**
 * A SqlClient of Effect for SQLite, by `node:sqlite` in threads, so that no statement blocks the event loop.
 *
 * Transactions and single statements that write take turns on one connection. Queries and streams of a file have a connection and a thread
 * of their own: they see the last committed state, and do not wait for transactions. That thread starts later, since a start would wait for
 * it; until then queries take turns too. A statement that another process locks out is repeated for a while. An interrupted statement that
 * was sent runs to its end in the thread; its result is dropped.
 */
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads"

import { Array, Duration, Effect, Schedule, type Scope, Semaphore, Stream } from "effect"
import type { Reactivity } from "effect/reactivity"
import { SqlClient, type SqlConnection, SqlError, Statement } from "effect/sql"

import * as sqlErrors from "./sqlErrors.ts"
import type { Command, Options as ThreadOptions, Reply, Rows, ThreadData } from "./sqliteThread.ts"

/** Beside this file, or beside its bundle. */
const threadFile = import.meta.url.endsWith(".ts") ? "./sqliteThread.ts" : "./sqliteThread.js"

export interface Options extends Pick<ThreadOptions, "filename" | "isExclusive"> {
  /** How long to wait for the lock of another process. */
  readonly busyTimeout: Duration.Duration
}

/** A client for a database file, which is made where it is missing, or for `:memory:`. */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<SqlClient.SqlClient, never, Scope.Scope | Reactivity.Reactivity> {
  const { busyTimeout, filename, isExclusive } = options
  const mainThread = yield* makeThread({ filename, isExclusive, isReader: false })
  const main = SqlClient.makeSqliteAcquirers({
    connection: Effect.map(mainThread, (thread) => new Connection(thread, busyTimeout)),
    semaphore: Semaphore.makeUnsafe(1),
    isTransaction: (connection: Connection) => connection.isTransaction
  })
  // it takes a while; whoever needs it first sees why it cannot start
  yield* Effect.forkScoped(Effect.ignore(mainThread), { startImmediately: true })

  const single = new SingleStatements(main.borrower)
  const hasReader = filename !== ":memory:" && !isExclusive
  const readerThread = hasReader ? yield* makeThread({ filename, isExclusive, isReader: true }) : undefined
  const reader = readerThread && Effect.map(readerThread, (thread) => new Connection(thread, busyTimeout))
  if (reader !== undefined) {
    // queries need no turns there: the thread runs them in the order in which they are sent
    const lendReader = Effect.sync(() => (single.lendReader = (use) => Effect.flatMap(reader, use)))
    yield* Effect.forkScoped(Effect.delay(Effect.andThen(Effect.ignore(reader), lendReader), readerDelay))
  }
  return yield* SqlClient.make({
    // for streams, which would keep a turn for too long
    acquirer: reader ?? main.acquirer,
    borrower: (use) => use(single),
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

/** How long after the first thread the one for queries starts. */
const readerDelay = Duration.seconds(1)

/** The running thread. One that failed is replaced at the next use; what it was running fails. */
const makeThread = (
  options: ThreadOptions
): Effect.Effect<Effect.Effect<Thread, SqlError.SqlError>, never, Scope.Scope> =>
  Effect.gen(function* () {
    let current: Thread | undefined
    const opening = Semaphore.makeUnsafe(1)
    const open = Effect.suspend(() => {
      if (current?.isAlive === true) return Effect.succeed(current)
      const thread = new Thread(options)
      return Effect.as(thread.opened, thread).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            current = thread
          })
        ),
        Effect.onError(() => Effect.promise(() => thread.close()))
      )
    })
    yield* Effect.addFinalizer(() => Effect.promise(async () => current?.close()))
    const thread = Effect.suspend(() =>
      current?.isAlive === true ? Effect.succeed(current) : opening.withPermit(open)
    )
    return thread
  })

/** The number of commands that a thread has at most. The others wait here, so that those that are interrupted are not run. */
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
  /** Whether a transaction was open after the last command. */
  isTransaction = false
  readonly opened: Effect.Effect<void, SqlError.SqlError>
  readonly #port: MessagePort
  readonly #exited: Promise<void>
  readonly #waiting: Waiting[] = []
  /** Of the commands that were sent. */
  readonly #callbacks: Waiting["onReply"][] = []

  constructor(options: ThreadOptions) {
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    const worker = new Worker(new URL(threadFile, import.meta.url), {
      name: "sqlite",
      workerData: { options, port: port2 } satisfies ThreadData,
      transferList: [port2]
    })
    const first = new Promise<Reply>((resolve) => this.#callbacks.push(resolve))
    this.opened = Effect.flatMap(
      Effect.promise(() => first),
      resultOf
    )
    this.#exited = new Promise((resolve) => {
      worker.once("exit", () => {
        this.#fail("The thread of SQLite has ended")
        resolve()
      })
    })
    port1.on("message", (reply: Reply) => {
      this.isTransaction = reply.isTransaction
      this.#callbacks.shift()?.(reply)
      this.#sendNext()
    })
    worker.on("error", (error) => this.#fail(error instanceof Error ? error.message : String(error)))
  }

  send(command: Command): Effect.Effect<unknown, SqlError.SqlError> {
    return Effect.callback<Reply>((resume) => {
      if (!this.isAlive) return resume(Effect.succeed(failure("The thread of SQLite has ended")))
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
      this.#port.postMessage(next.command)
    }
  }

  #fail(message: string): void {
    this.isAlive = false
    this.isTransaction = false
    this.#port.close()
    const waiting = this.#waiting.splice(0).map(({ onReply }) => onReply)
    for (const onReply of [...this.#callbacks.splice(0), ...waiting]) onReply(failure(message))
  }
}

/** SQLITE_CANTOPEN, which counts as a failure of the connection. */
const cantOpen = 14

const failure = (message: string): Reply => ({ failure: { message, errno: cantOpen }, isTransaction: false })

const resultOf = (reply: Reply): Effect.Effect<unknown, SqlError.SqlError> => {
  if ("value" in reply) return Effect.succeed(reply.value)
  const cause = Object.assign(new Error(reply.failure.message), { errno: reply.failure.errno })
  return Effect.fail(new SqlError.SqlError({ reason: SqlError.classifySqliteError(cause, { message: cause.message }) }))
}

type TransformRows = Parameters<SqlConnection.Connection["execute"]>[2]

let cursors = 0

/** Between attempts to run a statement that another process locks out. */
const lockInterval = Duration.millis(10)

class Connection implements SqlConnection.Connection {
  readonly #thread: Thread
  readonly #untilUnlocked: Schedule.Schedule<unknown>

  constructor(thread: Thread, busyTimeout: Duration.Duration) {
    this.#thread = thread
    this.#untilUnlocked = Schedule.upTo(Schedule.spaced(lockInterval), { duration: busyTimeout })
  }

  get isTransaction(): boolean {
    return this.#thread.isTransaction
  }

  execute(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    const rows = Effect.map(this.#send<Rows>({ _tag: "Rows", sql, params }), toObjects)
    return transformRows === undefined ? rows : Effect.map(rows, transformRows)
  }

  /** Gives the number of changed rows as `rowCount`, as the client of PostgreSQL does. */
  executeRaw(sql: string, params: ReadonlyArray<unknown>) {
    return Effect.map(this.#send<number>({ _tag: "Run", sql, params }), (rowCount) => ({ rowCount }))
  }

  executeStream(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    const cursor = cursors++
    const open = this.#send({ _tag: "Open", sql, params, cursor })
    const close = Effect.ignore(this.#thread.send({ _tag: "Close", cursor }))
    const fetch = Effect.map(this.#send<Rows>({ _tag: "Fetch", cursor }), toObjects)
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
    return Effect.map(this.#send<Rows>({ _tag: "Rows", sql, params }), ({ values }) => values)
  }

  executeValuesUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return this.executeValues(sql, params)
  }

  executeUnprepared(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    return this.execute(sql, params, transformRows)
  }

  /** Outside of a transaction, nothing is lost when a statement is repeated that was locked out. */
  #send<A>(command: Command): Effect.Effect<A, SqlError.SqlError> {
    const sent = this.#thread.send(command) as Effect.Effect<A, SqlError.SqlError>
    const isLockedOut = (error: SqlError.SqlError) => !this.isTransaction && sqlErrors.isLocked(error)
    // a schedule costs more than the check, and few statements are locked out
    return Effect.catchIf(sent, isLockedOut, () =>
      Effect.retry(sent, { while: isLockedOut, schedule: this.#untilUnlocked })
    )
  }
}

const toObjects = ({ columns, values }: Rows): ReadonlyArray<object> =>
  values.map((row) => {
    const object: { [column: string]: unknown } = {}
    for (let index = 0; index < columns.length; index++) object[columns[index]!] = row[index]
    return object
  })

/** Lends a connection for one statement. */
type Lend = <A>(
  use: (connection: SqlConnection.Connection) => Effect.Effect<A, SqlError.SqlError>
) => Effect.Effect<A, SqlError.SqlError>

/** Runs each statement by itself: queries on the connection for reading, once there is one, everything else on the main one. */
class SingleStatements implements SqlConnection.Connection {
  readonly #lendMain: Lend
  lendReader: Lend

  constructor(lendMain: Lend) {
    this.#lendMain = lendMain
    this.lendReader = lendMain
  }

  execute(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    return this.#lend(sql)((connection) => connection.execute(sql, params, transformRows))
  }

  executeRaw(sql: string, params: ReadonlyArray<unknown>) {
    return this.#lend(sql)((connection) => connection.executeRaw(sql, params))
  }

  executeStream(): Stream.Stream<never> {
    return Stream.die(new Error("A stream outlives the effect that starts it, so it has a connection of its own"))
  }

  executeValues(sql: string, params: ReadonlyArray<unknown>) {
    return this.#lend(sql)((connection) => connection.executeValues(sql, params))
  }

  executeValuesUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return this.executeValues(sql, params)
  }

  executeUnprepared(sql: string, params: ReadonlyArray<unknown>, transformRows: TransformRows) {
    return this.execute(sql, params, transformRows)
  }

  #lend(sql: string): Lend {
    return /^\s*SELECT\b/i.test(sql) ? this.lendReader : this.#lendMain
  }
}
