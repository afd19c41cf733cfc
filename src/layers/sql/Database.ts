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
  Schema,
  Scope,
  Stream
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
import {
  codeOf,
  describeError,
  errorOf,
  type Expected,
  isExpected,
  isOutage,
  OperationTimeout
} from "./operationErrors.ts"
import * as Operations from "./Operations.ts"
import * as Reachability from "./Reachability.ts"
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
      const operations = yield* Operations.make(driver.destroySilent)
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
      Effect.annotateLogs({ database: DatabaseUrl.format(url) })
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

const make = Effect.fnUntraced(function* (
  { timeout, url }: Settings,
  driver: Driver,
  { limit, scope }: Operations.Operations
): Effect.fn.Return<Database["Service"], never, Scope.Scope> {
  const { client, listen, system } = driver
  const reachability = yield* Reachability.make(limit(driver.probe, probeTimeout), DatabaseUrl.format(url), scope)
  const measure = makeMeasure(system, yield* Effect.context())

  const runOnce: Run = (operation, effect, options) =>
    Effect.suspend(() => {
      const down = reachability.down()
      if (down !== undefined) return Effect.fail(new DatabaseUnavailable({ reason: down, isOutage: true }))
      return Effect.catchCause(
        limit(effect, Duration.fromInputUnsafe(options?.timeout ?? timeout), measure(operation)),
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
    runOnce(
      operation,
      Effect.catchIf(effect, isOutage, () => effect),
      options
    ) as never

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
          const listening = Stream.runForEach(Stream.retry(listen(channel), Reachability.backoff), () =>
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

const unavailable = (error: Expected) =>
  new DatabaseUnavailable({ reason: describeError(error), isOutage: isOutage(error) })

/** How long a probe may take. */
const probeTimeout = Duration.seconds(2)

/** The SQLSTATE of a server that starts or shuts down. */
const cannotConnectNow = "57P03"

/** Repeats the first use of a database until it can be reached, with a warning for each new reason. */
const untilReachable =
  (url: DatabaseUrl.DatabaseUrl) =>
  (started: Started): Effect.Effect<void, Migrations.SchemaError> => {
    let warned: string | undefined
    const warn = (error: Expected) => {
      const reason = describeError(error)
      // a server that is starting was down before, and that has been logged
      const isStarting = codeOf(error) === cannotConnectNow && warned !== undefined
      if (reason === warned || isStarting) return Effect.void
      warned = reason
      return Effect.logWarning("Database unavailable, trying again").pipe(
        Effect.annotateLogs({ database: DatabaseUrl.format(url), reason })
      )
    }
    return dieOfBugs(started).pipe(
      Effect.tapError((error) => (isExpected(error) ? warn(error) : Effect.void)),
      Effect.retry({ while: isExpected, schedule: Reachability.backoff })
    ) as Effect.Effect<void, Migrations.SchemaError>
  }

const failUnreachable =
  (url: DatabaseUrl.DatabaseUrl) =>
  (started: Started): Effect.Effect<void, Migrations.SchemaError | DatabaseUnavailable> =>
    Effect.mapError(dieOfBugs(started), (error) =>
      isExpected(error)
        ? new DatabaseUnavailable({
            reason: `${DatabaseUrl.format(url)}: ${describeError(error)}`,
            isOutage: isOutage(error)
          })
        : error
    )

/** Wrong statements of migrations are reported as a {@link Migrations.SchemaError}, so others are bugs of this folder. */
const dieOfBugs = (started: Started): Started =>
  Effect.catchIf(started, SqlError.isSqlError, (error) => (isExpected(error) ? Effect.fail(error) : Effect.die(error)))

/**
 * Records OpenTelemetry's `db.client.operation.duration`
 * (https://opentelemetry.io/docs/specs/semconv/database/database-metrics/).
 */
const makeMeasure = (system: Driver["system"], context: Context.Context<never>) => {
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

  /** Begins an operation, and returns what records its end. */
  return (operation: string) => {
    const startedAt = performance.now()
    return (exit: Exit.Exit<unknown, unknown>): void => {
      const errorType = Exit.isSuccess(exit) ? undefined : errorTypeOf(exit)
      const labels = `${operation} ${errorType}`
      let duration = durations.get(labels)
      if (duration === undefined) durations.set(labels, (duration = durationOf(operation, errorType)))
      duration.updateUnsafe((performance.now() - startedAt) / 1000, context)
    }
  }
}

/** The value of `error.type`: undefined for errors that are no errors of the database. */
const errorTypeOf = ({ cause }: Exit.Failure<unknown, unknown>): string | undefined => {
  const error = cause.reasons.map(errorOf).find((error) => error !== undefined)
  if (error instanceof OperationTimeout) return "timeout"
  if (SqlError.isSqlError(error)) return error.reason._tag
  return error === undefined ? "cancelled" : undefined
}
