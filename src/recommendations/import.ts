/**
 * Imports catalogues and ratings into the database of DATABASE_URL, also while the services run, and copies it into another one:
 * `npm run import -- catalog FILE`, `npm run import -- ratings FILE`, `npm run import -- database URL`.
 */
import { NodeServices } from "@effect/platform-node"
import { Config, Effect, FileSystem, Layer, Option, Path, Schema } from "effect"
import { Argument, CliConfig, type CliError, CliOutput, Command, Flag, GlobalFlag } from "effect/cli"

import project from "../../package.json" with { type: "json" }
import { cutSecrets } from "../layers/config/cutSecrets.ts"
import { ProjectRoot } from "../layers/config/ProjectRoot.ts"
import { quoteText } from "../layers/config/quoteText.ts"
import { warnAbout } from "../layers/config/unknownSettings.ts"
import { runMain } from "../layers/process/runMain.ts"
import * as Database from "../layers/sql/Database.ts"
import * as DatabaseUrl from "../layers/sql/DatabaseUrl.ts"
import * as Logging from "../layers/telemetry/Logging.ts"
import settingNames from "../settingNames.json" with { type: "json" }
import * as CatalogFile from "./catalog/CatalogFile.ts"
import { CatalogStore } from "./catalog/CatalogStore.ts"
import * as DatabaseCatalog from "./catalog/DatabaseCatalog.ts"
import { copyDatabase } from "./database/copyDatabase.ts"
import { migrations } from "./database/migrations.ts"
import { importRatings } from "./readers/importRatings.ts"

/** The arguments are wrong. The message is one line. */
class UsageError extends Schema.TaggedError<UsageError>()("UsageError", { message: Schema.String }) {}

/** The database, which has to be reachable. */
const DatabaseLayer = Database.Database.layerConfigReachable(migrations)

/** npm runs its scripts in the project's root, and has the working directory of its caller in INIT_CWD. */
const workingDirectory = Config.String("INIT_CWD").pipe(Config.withDefault(""))

/** The absolute path of a file. An argument that may contain a password is refused, since paths are in messages. */
const resolvePath = Effect.fnUntraced(function* (path: string) {
  if (cutSecrets(path) !== path) return yield* new UsageError({ message: "FILE: expected a path, not a URL" })
  const { resolve } = yield* Path.Path
  return resolve(yield* workingDirectory, path)
})

const file = Argument.String("FILE").pipe(Argument.withDescription("The path of the file"))

const catalog = Command.make(
  "catalog",
  { path: file },
  Effect.fnUntraced(function* ({ path }) {
    const { maxSize } = yield* CatalogFile.settings
    const file = { variable: "FILE", path: yield* resolvePath(path), maxSize }
    yield* DatabaseCatalog.logImported(file, yield* (yield* CatalogStore).importFile(file))
  })
).pipe(
  Command.withDescription("Imports a catalogue file: all replicas then serve its books"),
  Command.provide(CatalogStore.layer.pipe(Layer.provide(DatabaseLayer)))
)

const strict = Flag.Boolean("strict").pipe(
  Flag.withDescription(
    "Imports nothing if a row is invalid or of an unknown book; FILE is read twice, so not /dev/stdin"
  ),
  Flag.withDefault(false)
)

const ratings = Command.make(
  "ratings",
  { path: file, isStrict: strict },
  Effect.fnUntraced(function* ({ isStrict, path }) {
    const ratingsPath = yield* resolvePath(path)
    const catalogs = yield* CatalogStore
    if (Option.isNone(yield* catalogs.current)) {
      const catalogFile = yield* CatalogFile.fromSettings
      yield* DatabaseCatalog.logImported(catalogFile, yield* catalogs.importFile(catalogFile))
    }
    const summary = yield* importRatings(ratingsPath, { isStrict })
    yield* Effect.annotateLogs(Effect.logInfo("Ratings imported"), { ...summary })
  })
).pipe(
  Command.withDescription(
    "Imports readers' ratings, a CSV file with the header user_id,book_id,rating or user_id,book_id,rating,happened_at. The same file " +
      "again changes nothing"
  ),
  Command.provide(Layer.provideMerge(CatalogStore.layer, DatabaseLayer))
)

const target = Argument.String("URL").pipe(Argument.withDescription(`The empty database: ${DatabaseUrl.expected}`))

/** A misspelt source would be made, and copied without a row. */
const refuseUnkept = Effect.fnUntraced(function* (source: DatabaseUrl.DatabaseUrl, target: DatabaseUrl.DatabaseUrl) {
  const { exists } = yield* FileSystem.FileSystem
  const { resolve } = yield* ProjectRoot
  for (const url of [source, target]) {
    if (url._tag === "Sqlite" && url.filename === ":memory:") {
      return yield* new UsageError({ message: "A database in memory cannot be copied from or to another process" })
    }
  }
  if (source._tag === "Sqlite" && !(yield* Effect.orElseSucceed(exists(resolve(source.filename)), () => true))) {
    return yield* new UsageError({
      message: `DATABASE_URL: there is no file ${quoteText(source.filename)} to copy from`
    })
  }
})

const database = Command.make(
  "database",
  { url: target },
  Effect.fnUntraced(function* ({ url }) {
    const settings = yield* Database.settings
    const parsed = DatabaseUrl.parse(url)
    // the text may contain a password
    if (Option.isNone(parsed)) return yield* new UsageError({ message: `URL: expected ${DatabaseUrl.expected}` })
    yield* refuseUnkept(settings.url, parsed.value)
    const source = settings.url._tag === "Sqlite" ? { ...settings.url, isExclusive: true } : settings.url
    const connect = (url: DatabaseUrl.DatabaseUrl) =>
      Layer.build(Database.Database.layerReachable({ ...settings, url }, migrations))
    const copied = yield* Effect.scoped(
      Effect.flatMap(Effect.all([connect(source), connect(parsed.value)]), ([from, to]) => copyDatabase(from, to))
    )
    for (const { rows, table } of copied) {
      yield* Effect.annotateLogs(Effect.logInfo("Table copied"), { table, rows })
    }
  })
).pipe(Command.withDescription("Copies everything from the database of DATABASE_URL into an empty database"))

/** All commands. Each provides the services that only it needs. */
const command = Command.make("import").pipe(
  Command.withDescription("Imports files into the database of DATABASE_URL"),
  Command.withSubcommands([catalog, ratings, database])
)

const toUsageError = ({ errors }: CliError.ShowHelp) =>
  new UsageError({
    message: `${errors.length === 0 ? "Expected a command" : errors.map(({ message }) => cutSecrets(message).replaceAll(/\s+/g, " ")).join("; ")} (--help lists them)`
  })

/** Shows help only if it was requested, since {@link UsageError} is a line by itself. */
const presenter: CliOutput.Presenter = {
  present: (event) => (event._tag === "InvalidInvocation" ? Effect.void : CliOutput.defaultPresenter.present(event))
}

const Services = Layer.mergeAll(
  CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version] }),
  Layer.provideMerge(ProjectRoot.layer(import.meta.url, "proto/recommendations.proto"), NodeServices.layer),
  Logging.layerConfig
)

Command.run(command, { version: project.version }).pipe(
  Effect.catchTag("ShowHelp", (error) => Effect.fail(toUsageError(error))),
  Effect.provideService(CliOutput.Presenter, presenter),
  warnAbout(settingNames),
  Effect.provide(Services),
  runMain
)
