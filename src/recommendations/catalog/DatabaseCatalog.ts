/**
 * The current catalogue of the database, in memory. CATALOG_FILE is imported at the start. A catalogue that any process imports later
 * replaces the one in memory in one step.
 */
import { type Config, Duration, Effect, Equal, Layer, Option, Schedule, Stream } from "effect"

import { BookCatalog } from "../../domain/BookCatalog.ts"
import * as Setting from "../../layers/config/Setting.ts"
import { DatabaseUnavailable } from "../../layers/sql/Database.ts"
import * as Reachability from "../../layers/sql/Reachability.ts"
import * as ObservableMetric from "../../layers/telemetry/ObservableMetric.ts"
import * as repeatedTask from "../../layers/telemetry/repeatedTask.ts"
import * as CatalogFile from "./CatalogFile.ts"
import { CatalogStore, type Imported, type LoadedCatalog } from "./CatalogStore.ts"

/** MODEL_REFRESH. */
export const refreshInterval: Config.Config<Duration.Duration> = Setting.duration("MODEL_REFRESH", {
  description:
    "How often to look for a newer catalogue in the database. PostgreSQL's notifications usually announce it sooner.",
  default: Duration.seconds(5),
  minimum: "10 millis"
})

/** At the start, the layer waits until the database can be reached. */
export const layer = Layer.effect(
  BookCatalog,
  Effect.gen(function* () {
    const store = yield* CatalogStore
    const interval = yield* refreshInterval
    const file = yield* CatalogFile.fromSettings
    yield* untilAvailable(store.importOnce(file)).pipe(
      Effect.flatMap(Option.match({ onNone: () => Effect.void, onSome: (imported) => logImported(file, imported) }))
    )
    // there is one, since the file has been imported
    let current = yield* untilAvailable(loadFrom(store)).pipe(Effect.flatMap(Effect.fromOption), Effect.orDie)
    const [catalog, replace] = BookCatalog.make(current.catalog.toShelves())
    yield* ObservableMetric.gauges([
      ["catalog_books", "Books in the catalogue", () => current.catalog.size],
      ["catalog_id", "The id of the catalogue; each import has a higher one", () => current.version.catalogId],
      ["catalog_load_duration_seconds", "Time to load the catalogue", () => Duration.toSeconds(current.elapsed)]
    ])

    const refresh = Effect.gen(function* () {
      const newest = yield* store.current
      // the id is lower, or is that of another import, if the database was restored from a backup
      if (Option.isNone(newest) || Equal.equals(newest.value, current.version)) return
      const loaded = yield* loadFrom(store)
      if (Option.isNone(loaded)) return
      current = loaded.value
      replace(current.catalog.toShelves())
    })
    const guard = repeatedTask.makeGuard("The catalogue cannot be updated")
    const refreshSafely = warnOnce(refresh)
    yield* Stream.merge(Stream.tick(interval), notificationsOf(store, interval)).pipe(
      Stream.runForEach(() => guard(refreshSafely())),
      Effect.forkScoped
    )
    return catalog
  })
)

/** The notifications of a store. If they end, they begin again after a while; the catalogue is also polled. */
const notificationsOf = ({ notifications }: CatalogStore["Service"], interval: Duration.Duration) => {
  const guard = repeatedTask.makeGuard("Notifications of new catalogues cannot be received")
  return notifications.pipe(
    Stream.tap(() => guard(Effect.void)),
    Stream.catchCause((cause) => Stream.fromEffectDrain(guard(Effect.failCause(cause)))),
    Stream.repeat(Schedule.spaced(interval))
  )
}

interface TimedCatalog extends LoadedCatalog {
  readonly elapsed: Duration.Duration
}

/** Loads the current catalogue, and logs it. */
const loadFrom = Effect.fnUntraced(function* (store: CatalogStore["Service"]) {
  const [elapsed, loaded] = yield* Effect.timed(store.load)
  if (Option.isNone(loaded)) return Option.none<TimedCatalog>()
  const { catalog, version } = loaded.value
  yield* Effect.annotateLogs(Effect.logInfo("Catalogue loaded"), {
    catalogId: version.catalogId,
    books: catalog.size,
    durationMs: Math.round(Duration.toMillis(elapsed))
  })
  return Option.some<TimedCatalog>({ ...loaded.value, elapsed })
})

/** Logs an import, and the warnings about its rows. */
export const logImported = Effect.fnUntraced(function* (
  { path }: CatalogFile.CatalogFile,
  { bookCount, catalogId, warningCount, warnings }: Imported
) {
  for (const { line, reason } of warnings) {
    yield* Effect.annotateLogs(Effect.logWarning("Suspicious row in the catalogue"), { path, line, reason })
  }
  const suppressed = warningCount - warnings.length
  if (suppressed > 0) {
    yield* Effect.annotateLogs(Effect.logWarning(`${suppressed} further warnings about the catalogue suppressed`), {
      path
    })
  }
  yield* Effect.annotateLogs(Effect.logInfo("Catalogue imported"), { path, catalogId, books: bookCount })
})

const warn = (message: string, { reason }: DatabaseUnavailable) =>
  Effect.annotateLogs(Effect.logWarning(message), { reason })

/** Repeats an effect until the database can be reached, with one warning. */
const untilAvailable = <A, E, R>(effect: Effect.Effect<A, E | DatabaseUnavailable, R>) => {
  let hasWarned = false
  return effect.pipe(
    Effect.tapError((error) => {
      if (hasWarned || !(error instanceof DatabaseUnavailable)) return Effect.void
      hasWarned = true
      return warn("Database unavailable: waiting to load the catalogue", error)
    }),
    Effect.retry({ while: (error) => error instanceof DatabaseUnavailable, schedule: Reachability.backoff })
  )
}

/** Runs an effect each time it is called. Of consecutive failures, the first is logged. */
const warnOnce = (effect: Effect.Effect<void, DatabaseUnavailable>): (() => Effect.Effect<void>) => {
  let hasFailed = false
  return () =>
    Effect.matchEffect(effect, {
      onFailure: (error) => {
        if (hasFailed) return Effect.void
        hasFailed = true
        return warn("Database unavailable: the catalogue cannot be updated", error)
      },
      onSuccess: () =>
        Effect.sync(() => {
          hasFailed = false
        })
    })
}
