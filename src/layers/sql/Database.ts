/**
 * The database of a service: SQLite in a thread of this process, or PostgreSQL, chosen by a URL. Statements are written with Effect's
 * SqlClient, and run by {@link Database}, which bounds their time, measures them, and knows whether the database can be reached.
 *
 * ```ts
 * const { run, transaction } = yield* Database
 * const sql = yield* SqlClient.SqlClient
 *
 * const titles = run("books.titles", sql`SELECT title FROM books`)
 * const rename = transaction("books.rename", sql`UPDATE books SET title = ${title} WHERE book_id = ${id}`)
 * ```
 */
import {
  Cause,
  Config,
  Context,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Metric,
  Queue,
  Schedule,
  Schema,
  Scope,
  Stream,
  SubscriptionRef
} from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient, SqlError } from "effect/sql"

import { isLoopback } from "../config/Address.ts"
import { ProjectRoot } from "../config/ProjectRoot.ts"
import * as Setting from "../config/Setting.ts"
import { durationBoundaries } from "../telemetry/durationBoundaries.ts"
import * as ObservableMetric from "../telemetry/ObservableMetric.ts"
import * as DatabaseUrl from "./DatabaseUrl.ts"
import * as Migrations from "./Migrations.ts"
import * as sqlErrors from "./sqlErrors.ts"

/** The database cannot be reached, or refused to work for a reason outside of the program. The operation can be retried. */
export class DatabaseUnavailable extends Schema.TaggedError<DatabaseUnavailable>()("DatabaseUnavailable", {
  /** A line for an operator, without values and passwords. */
  reason: Schema.String,
  /** Whether the database cannot be reached at all; otherwise only this operation failed. */
  isOutage: Schema.Boolean
}) {
  override get message() {
    return `The database is unavailable: ${this.reason}`
  }
}

export interface RunOptions {
  /** How long the operation may take, instead of {@link Settings.timeout}. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * Runs an operation: a single statement or several. `operation` names it in metrics and log lines. While the database cannot be reached, it
 * fails immediately. Errors that are not the program's become {@link DatabaseUnavailable}; the others are defects.
 */
export type Run = <A, E, R>(
  operation: string,
  effect: Effect.Effect<A, E, R>,
  options?: RunOptions
) => Effect.Effect<A, Exclude<E, SqlError.SqlError> | DatabaseUnavailable, R>

export interface Settings {
  readonly url: DatabaseUrl.DatabaseUrl
  /** The maximum number of connections to PostgreSQL. */
  readonly maxConnections: number
  /** How long an operation may take. */
  readonly timeout: Duration.Duration
}

/** DATABASE_URL, DATABASE_MAX_CONNECTIONS and DATABASE_TIMEOUT. */
export const settings: Config.Config<Settings> = Config.all({
  url: Setting.withDefault("DATABASE_URL", {
    description:
      "The database: `sqlite:PATH` (one process; relative to the project's root), `sqlite::memory:`, or " +
      "`postgres://user:password@host:port/name?sslmode=...`. `sslmode` is `disable` (the default), `require` (encrypted, the " +
      "certificate is not verified) or `verify-full` (with the CA of `sslrootcert=PATH`, or those of Node).",
    expected: DatabaseUrl.expected,
    unset: "sqlite:var/books.db",
    default: { _tag: "Sqlite", filename: "var/books.db" },
    parse: DatabaseUrl.parse,
    // anything else may contain a password
    isSecret: (value) => !value.startsWith("sqlite:")
  }),
  maxConnections: Setting.count("DATABASE_MAX_CONNECTIONS", {
    description: "The maximum number of connections to PostgreSQL, of which one is for notifications.",
    default: 10,
    minimum: 3,
    maximum: 1_000
  }),
  timeout: Setting.duration("DATABASE_TIMEOUT", {
    description: "How long an operation of the database may take before it fails.",
    default: Duration.seconds(5),
    minimum: "10 millis"
  })
})

export class Database extends Context.Service<
  Database,
  {
    /** Whether the database can be reached, as far as is known. */
    readonly isAvailable: () => boolean
    /** {@link isAvailable} now, and whenever it changes. */
    readonly availability: Stream.Stream<boolean>
    readonly run: Run
    /**
     * Runs an operation in a transaction that may write, of isolation level READ COMMITTED or higher. It is repeated when the database aborts
     * it because of a conflict with another one.
     */
    readonly transaction: Run
    /**
     * Emits when any process calls {@link notify} on a channel, and when notifications can have been missed. It never emits for SQLite.
     * Notifications can be lost, so it only makes polling faster.
     */
    readonly listen: (channel: string) => Stream.Stream<void>
    /** In a transaction the notification is sent when the transaction commits. A no-op for SQLite. */
    readonly notify: (channel: string) => Effect.Effect<void, SqlError.SqlError>
  }
>()("layers/sql/Database") {
  /** The database of {@link settings}, with its schema up to date. */
  static readonly layerConfig = (migrations: ReadonlyArray<Migrations.Migration>) =>
    Layer.unwrap(Effect.map(settings, (settings) => Database.layer(settings, migrations)))

  /** {@link layerConfig} for commands: it fails if the database cannot be reached at the start. */
  static readonly layerConfigReachable = (migrations: ReadonlyArray<Migrations.Migration>) =>
    Layer.unwrap(Effect.map(settings, (settings) => Database.layerReachable(settings, migrations)))

  /**
   * While the database cannot be reached at the start, it is tried again, so that the process is alive and not ready. A schema that this
   * program does not support fails the start.
   */
  static readonly layer = (settings: Settings, migrations: ReadonlyArray<Migrations.Migration>) =>
    open(settings, migrations, untilReachable(settings.url))

  /** {@link layer} for commands: it fails if the database cannot be reached at the start. */
  static readonly layerReachable = (settings: Settings, migrations: ReadonlyArray<Migrations.Migration>) =>
    open(settings, migrations, failUnreachable(settings.url))
}

type Started = Effect.Effect<void, Migrations.SchemaError | Expected>

/** Connects and migrates. `handle` handles the errors of the first use. */
const open = <E>(
  settings: Settings,
  migrations: ReadonlyArray<Migrations.Migration>,
  handle: (started: Started) => Effect.Effect<void, E>
) =>
  Layer.effectContext(
    Effect.gen(function* () {
      const driver = yield* connect(settings)
      const operations = yield* operationsOf(driver)
      const database = yield* make(settings, driver, operations)
      let isOpen = false
      yield* ObservableMetric.gauge("database_available", "1 if the database can be reached, as far as is known", () =>
        isOpen && database.isAvailable() ? 1 : 0
      )
      const migrated = Effect.andThen(checkEncoding(driver.client), Migrations.run(migrations)).pipe(
        Effect.provideService(SqlClient.SqlClient, driver.client)
      )
      yield* handle(operations.limit(warnIfSlow(migrated), migrationTimeout))
      isOpen = true
      return Context.make(Database, database).pipe(Context.add(SqlClient.SqlClient, driver.client))
    })
  ).pipe(Layer.provide(Reactivity.layer))

/** How long the migrations may take, with the time that they wait for those of another process or for a backup. */
const migrationTimeout = Duration.hours(1)

/** A lock that another process holds is the only reason for migrations to be slow. */
const warnIfSlow = <A, E, R>(migrated: Effect.Effect<A, E, R>) =>
  Effect.raceFirst(
    migrated,
    Effect.andThen(
      Effect.delay(
        Effect.logWarning("Waiting for the schema, which another process migrates or backs up"),
        "10 seconds"
      ),
      Effect.never
    )
  )

/** Texts of every language are stored, and searched by functions that count characters. */
const checkEncoding = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const encoding = yield* sql.onDialectOrElse({
    pg: () =>
      Effect.map(
        sql<{ readonly encoding: string }>`SELECT current_setting('server_encoding') AS encoding`,
        ([row]) => row?.encoding
      ),
    orElse: () => Effect.succeed("UTF8")
  })
  if (encoding !== "UTF8") {
    return yield* new Migrations.SchemaError({
      message: `The encoding of the database has to be UTF8, and is ${encoding}`
    })
  }
})

/** A client, and what only one of the databases has. */
interface Driver {
  readonly client: SqlClient.SqlClient
  /** The value of `db.system.name`. */
  readonly system: "sqlite" | "postgresql"
  readonly listen: (channel: string) => Stream.Stream<void, SqlError.SqlError>
  /** Reaches the database without waiting for the connections that are in use. */
  readonly probe: Effect.Effect<unknown, SqlError.SqlError>
  /** Ends what waits for a server that has sent nothing for a time in milliseconds. */
  readonly destroySilent: (time: number) => void
}

/** Loads only the driver that is used. */
const connect = Effect.fnUntraced(function* ({
  maxConnections,
  url
}: Settings): Effect.fn.Return<Driver, Setting.SettingError, Scope.Scope | Reactivity.Reactivity | ProjectRoot> {
  if (url._tag === "Sqlite") {
    const { make } = yield* Effect.promise(() => import("./SqliteClient.ts"))
    const { resolve } = yield* ProjectRoot
    const filename = url.filename === ":memory:" ? url.filename : resolve(url.filename)
    const { isExclusive = false } = url
    const client = yield* make({ filename, isExclusive, busyTimeout })
    return {
      client,
      system: "sqlite",
      listen: () => Stream.never,
      probe: client`SELECT 1`,
      destroySilent: () => {}
    }
  }
  if (url.sslMode === "disable" && !isLoopback(url.host)) {
    yield* Effect.logWarning("Connections to the database are not encrypted").pipe(
      Effect.annotateLogs({ database: describe(url) })
    )
  }
  const { make } = yield* Effect.promise(() => import("./PostgresClient.ts"))
  const { client, listen, probe, sockets } = yield* make({ url, maxConnections })
  yield* ObservableMetric.gauges([
    ["db.client.connection.count", "Open connections to the database", () => sockets.size],
    ["db.client.connection.max", "The maximum number of connections to the database", () => maxConnections]
  ])
  return { client, system: "postgresql", listen, probe, destroySilent: (time) => sockets.destroySilent(time) }
})

/** How long SQLite waits for another process. */
const busyTimeout = Duration.seconds(2)

/** Between attempts to reach the database. */
const backoff = Schedule.jittered(Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("2 seconds")]))

const make = Effect.fnUntraced(function* (
  { timeout, url }: Settings,
  driver: Driver,
  { limit, scope }: Operations
): Effect.fn.Return<Database["Service"], never, Scope.Scope> {
  const { client, listen, system } = driver
  const reachability = yield* makeReachability(limit(driver.probe, probeTimeout), url, scope)
  const measure = makeMeasure(system)

  const runOnce: Run = (operation, effect, options) =>
    Effect.suspend(() => {
      const down = reachability.down()
      if (down !== undefined) return Effect.fail(new DatabaseUnavailable({ reason: down, isOutage: true }))
      return Effect.catchCause(
        measure(operation, limit(effect, Duration.fromInputUnsafe(options?.timeout ?? timeout))),
        ({ reasons }): Effect.Effect<never, unknown> => {
          const errors = reasons.map(errorOf)
          const expected = errors.find(isExpected)
          if (expected !== undefined) {
            return Effect.andThen(reachability.onError(operation, expected), Effect.fail(unavailable(expected)))
          }
          const bug = errors.find(SqlError.isSqlError)
          return bug === undefined ? Effect.failCause(Cause.fromReasons(reasons)) : Effect.die(bug)
        }
      )
    }) as never

  // a connection of the pool may have been lost while it was idle
  const run: Run = (operation, effect, options) =>
    runOnce(operation, Effect.retry(effect, { times: 1, while: isOutage }), options) as never

  const inTransaction = <A, E, R>(effect: Effect.Effect<A, E, R>, time: Duration.Duration) => {
    if (system === "sqlite") return client.withTransaction(effect)
    const millis = Math.min(Duration.toMillis(time), maxPostgresTimeout)
    const lockMillis = Duration.isGreaterThan(time, timeout) ? millis : Math.min(millis, Duration.toMillis(lockTimeout))
    // local to the transaction, since PgBouncer shares a connection between clients
    const bound = client`SELECT set_config('statement_timeout', ${String(millis)}, true),
      set_config('idle_in_transaction_session_timeout', ${String(millis)}, true),
      set_config('lock_timeout', ${String(lockMillis)}, true)`
    return client.withTransaction(Effect.andThen(bound, effect))
  }

  const transaction: Run = (operation, effect, options) =>
    runOnce(
      operation,
      Effect.retry(inTransaction(effect, Duration.fromInputUnsafe(options?.timeout ?? timeout)), {
        times: maxConflicts,
        while: (error) => SqlError.isSqlError(error) && sqlErrors.isConflict(error)
      }),
      options
    ) as never

  return Database.of({
    isAvailable: () => reachability.down() === undefined,
    availability: reachability.changes,
    run,
    transaction,
    // the consumer does not wait for the end of the connection
    listen: (channel) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const notifications = yield* Queue.sliding<void>(1)
          const listening = Stream.runForEach(Stream.retry(listen(channel), backoff), () =>
            Queue.offer(notifications, undefined)
          )
          const fiber = yield* Effect.forkIn(listening, scope)
          yield* Effect.addFinalizer(() => Effect.forkIn(Fiber.interrupt(fiber), scope))
          return Stream.fromQueue(notifications)
        })
      ),
    notify: (channel) => (system === "sqlite" ? Effect.void : Effect.asVoid(client`SELECT pg_notify(${channel}, '')`))
  })
})

/**
 * How long a transaction waits for a lock in PostgreSQL, unless it may take longer than others. It is longer than the server waits before it
 * looks for a deadlock.
 */
const lockTimeout = Duration.millis(1_500)

/** The largest value of a time limit in PostgreSQL, in milliseconds. */
const maxPostgresTimeout = 2 ** 31 - 1

/** How often a transaction is repeated. */
const maxConflicts = 5

/** The operation did not end in time. */
class OperationTimeout extends Schema.TaggedError<OperationTimeout>()("layers/sql/OperationTimeout", {
  millis: Schema.Number
}) {}

type Expected = SqlError.SqlError | OperationTimeout

/** Whether an error has its reason outside of the program. */
const isExpected = (error: unknown): error is Expected =>
  error instanceof OperationTimeout || (SqlError.isSqlError(error) && sqlErrors.kindOf(error) !== "bug")

/** When the connection is lost in a transaction, its rollback fails too, as a defect. */
const errorOf = (reason: Cause.Reason<unknown>): unknown =>
  Cause.isFailReason(reason) ? reason.error : Cause.isDieReason(reason) ? reason.defect : undefined

const describeError = (error: Expected): string =>
  error instanceof OperationTimeout ? `no answer within ${error.millis} ms` : sqlErrors.describe(error)

const isOutage = (error: unknown): boolean => SqlError.isSqlError(error) && sqlErrors.kindOf(error) === "outage"

const unavailable = (error: Expected) =>
  new DatabaseUnavailable({ reason: describeError(error), isOutage: isOutage(error) })

/** Runs the operations of a database. */
interface Operations {
  /**
   * Fails when the time is over, without waiting for the database to confirm that it cancelled the statement: a server that is gone never
   * does.
   */
  readonly limit: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    time: Duration.Duration
  ) => Effect.Effect<A, E | OperationTimeout, R>
  /** Of everything that uses the database. It closes before the database does. */
  readonly scope: Scope.Scope
}

/** How long operations that were interrupted may take to end, before the connections of a silent server are destroyed. */
const grace = Duration.seconds(1)

/** How long a server may be silent while such operations do not end. */
const maxSilence = Duration.seconds(5)

const operationsOf = Effect.fnUntraced(function* ({
  destroySilent
}: Driver): Effect.fn.Return<Operations, never, Scope.Scope> {
  const scope = yield* Scope.make()
  const running = new Set<Fiber.Fiber<unknown, unknown>>()
  /** Waits until an effect ends, which needs an answer of the server or the end of its connection. */
  const insist = <A>(ended: Effect.Effect<A>, silence: Duration.Duration) =>
    Effect.raceFirst(
      ended,
      Effect.forever(
        Effect.delay(
          Effect.sync(() => destroySilent(Duration.toMillis(silence))),
          grace
        )
      )
    )
  const close = (exit: Exit.Exit<unknown, unknown>) =>
    Effect.andThen(Fiber.interruptAll(running), Scope.close(scope, exit))
  yield* Effect.addFinalizer((exit) =>
    Effect.flatMap(Effect.forkDetach(close(exit)), (closing) => insist(Fiber.join(closing), Duration.zero))
  )

  // two fibers and no scope, since it is on the path of every operation
  const limit: Operations["limit"] = (effect, time) =>
    Effect.contextWith((context: Context.Context<Effect.Services<typeof effect>>) =>
      Effect.callback((resume) => {
        const run = Effect.runForkWith(context)
        const fiber = run(effect)
        const timer = run(Effect.sleep(time))
        const abandon = () => {
          fiber.interruptUnsafe()
          run(insist(Fiber.await(fiber), maxSilence))
        }
        running.add(fiber)
        timer.addObserver((exit) => {
          if (Exit.isFailure(exit)) return
          resume(Effect.fail(new OperationTimeout({ millis: Duration.toMillis(time) })))
          abandon()
        })
        fiber.addObserver((exit) => {
          running.delete(fiber)
          timer.interruptUnsafe()
          resume(exit)
        })
        return Effect.sync(() => {
          timer.interruptUnsafe()
          abandon()
        })
      })
    )
  return { limit, scope }
})

interface Reachability {
  /** Why the database cannot be reached; undefined if it can, as far as is known. */
  readonly down: () => string | undefined
  readonly changes: Stream.Stream<boolean>
  /** An operation has failed. */
  readonly onError: (operation: string, error: Expected) => Effect.Effect<unknown>
}

/** Detects that the database cannot be reached, and then probes it until it can. */
const makeReachability = Effect.fnUntraced(function* (
  probe: Effect.Effect<unknown, Expected>,
  url: DatabaseUrl.DatabaseUrl,
  scope: Scope.Scope
): Effect.fn.Return<Reachability, never, Scope.Scope> {
  const state = yield* SubscriptionRef.make<string | undefined>(undefined)
  const down = () => SubscriptionRef.getUnsafe(state)
  const warnOfFailure = makeFailureLog(url)
  let isProbing = false

  const recover = Effect.gen(function* () {
    const [elapsed] = yield* Effect.timed(Effect.orDie(Effect.retry(probe, backoff)))
    yield* SubscriptionRef.set(state, undefined)
    yield* Effect.logInfo("Database available again").pipe(
      Effect.annotateLogs({ database: describe(url), durationMs: Math.round(Duration.toMillis(elapsed)) })
    )
  })

  const onOutage = (error: Expected) =>
    Effect.suspend(() => {
      if (down() !== undefined) return Effect.void
      const reason = describeError(error)
      return SubscriptionRef.set(state, reason).pipe(
        Effect.andThen(
          Effect.annotateLogs(Effect.logWarning("Database unavailable"), { database: describe(url), reason })
        ),
        Effect.andThen(Effect.forkIn(recover, scope))
      )
    })

  const probeOnce = Effect.suspend(() => {
    if (isProbing || down() !== undefined) return Effect.void
    isProbing = true
    const probed = Effect.catch(probe, onOutage).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          isProbing = false
        })
      )
    )
    return Effect.forkIn(probed, scope)
  })

  return {
    down,
    changes: Stream.map(SubscriptionRef.changes(state), (reason) => reason === undefined),
    onError: (operation, error) =>
      Effect.gen(function* () {
        if (isOutage(error)) return yield* onOutage(error)
        yield* warnOfFailure(operation, error)
        // one slow statement is no outage: another one decides
        if (error instanceof OperationTimeout) yield* probeOnce
      })
  }
})

/** How often a failure of the same operation for the same reason is logged. */
const warningInterval = Duration.minutes(1)

/** Logs failures of operations while the database can be reached, such as those of a full disk. */
const makeFailureLog = (url: DatabaseUrl.DatabaseUrl) => {
  const loggedAt = new Map<string, number>()
  return (operation: string, error: Expected) =>
    Effect.clockWith((clock) => {
      const reason = describeError(error)
      const key = `${operation} ${sqlStateOf(error)}`
      const now = clock.currentTimeMillisUnsafe()
      if (now - (loggedAt.get(key) ?? -Infinity) < Duration.toMillis(warningInterval)) return Effect.void
      loggedAt.set(key, now)
      return Effect.annotateLogs(Effect.logWarning("Database operation failed"), {
        database: describe(url),
        operation,
        reason
      })
    })
}

/** What there are few of. */
const sqlStateOf = (error: Expected): unknown =>
  error instanceof OperationTimeout ? error.millis : sqlErrors.codeOf(error)

/** How long a probe may take. */
const probeTimeout = Duration.seconds(2)

/** Repeats the first use of a database until it can be reached, with a warning for each new reason. */
const untilReachable =
  (url: DatabaseUrl.DatabaseUrl) =>
  (started: Started): Effect.Effect<void, Migrations.SchemaError> => {
    let warned: string | undefined
    const warn = (error: Expected) => {
      const reason = describeError(error)
      if (reason === warned) return Effect.void
      warned = reason
      return Effect.logWarning("Database unavailable, trying again").pipe(
        Effect.annotateLogs({ database: describe(url), reason })
      )
    }
    return dieOfBugs(started).pipe(
      Effect.tapError((error) => (isExpected(error) ? warn(error) : Effect.void)),
      Effect.retry({ while: isExpected, schedule: backoff })
    ) as Effect.Effect<void, Migrations.SchemaError>
  }

const failUnreachable =
  (url: DatabaseUrl.DatabaseUrl) =>
  (started: Started): Effect.Effect<void, Migrations.SchemaError | DatabaseUnavailable> =>
    Effect.mapError(dieOfBugs(started), (error) =>
      isExpected(error)
        ? new DatabaseUnavailable({ reason: `${describe(url)}: ${describeError(error)}`, isOutage: isOutage(error) })
        : error
    )

/** Wrong statements of migrations are reported as a {@link Migrations.SchemaError}, so others are bugs of this folder. */
const dieOfBugs = (started: Started): Started =>
  Effect.catchIf(started, SqlError.isSqlError, (error) => (isExpected(error) ? Effect.fail(error) : Effect.die(error)))

/** The database without its password, for messages. */
const describe = (url: DatabaseUrl.DatabaseUrl): string =>
  url._tag === "Sqlite"
    ? `sqlite:${url.filename}`
    : `postgres://${url.username}@${url.host.includes(":") ? `[${url.host}]` : url.host}:${url.port}/${url.database}`

/**
 * Records OpenTelemetry's `db.client.operation.duration`
 * (https://opentelemetry.io/docs/specs/semconv/database/database-metrics/).
 */
const makeMeasure = (system: Driver["system"]) => {
  const durationOf = (operation: string, errorType: string | undefined) =>
    Metric.histogram("db.client.operation.duration", {
      description: "Duration of database operations",
      attributes: {
        unit: "s",
        "db.system.name": system,
        "db.operation.name": operation,
        ...(errorType === undefined ? {} : { "error.type": errorType })
      },
      boundaries: durationBoundaries
    })
  /** By their labels, of which there are few. Creating a metric is slow. */
  const durations = new Map<string, ReturnType<typeof durationOf>>()

  return <A, E, R>(operation: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.clockWith((clock) => {
      const startedAt = clock.currentTimeNanosUnsafe()
      return Effect.onExit(effect, (exit) => {
        const errorType = Exit.isSuccess(exit) ? undefined : errorTypeOf(exit)
        const labels = `${operation} ${errorType}`
        let duration = durations.get(labels)
        if (duration === undefined) durations.set(labels, (duration = durationOf(operation, errorType)))
        return Metric.update(duration, Number(clock.currentTimeNanosUnsafe() - startedAt) / 1e9)
      })
    })
}

/** The value of `error.type`: undefined for errors that are no errors of the database. */
const errorTypeOf = ({ cause }: Exit.Failure<unknown, unknown>): string | undefined => {
  const error = cause.reasons.map(errorOf).find((error) => error !== undefined)
  if (error instanceof OperationTimeout) return "timeout"
  if (SqlError.isSqlError(error)) return error.reason._tag
  return error === undefined ? "cancelled" : undefined
}
