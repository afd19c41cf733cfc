/**
 * The catalogues in the database: imports files, and loads the current catalogue.
 *
 * Each import has an id, and the last one is the current catalogue. Books that it lacks stay in the table, with the id of the last import
 * that had them, since readers have said something about them.
 */
import { Array as Arr, Clock, Context, Effect, Equal, FileSystem, Layer, Option, Stream } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

import type { Book } from "../../domain/Book.ts"
import { Database, type DatabaseUnavailable } from "../../layers/sql/Database.ts"
import { bookColumns, type BookRow, fromRow, toRow } from "./bookRow.ts"
import * as CatalogFile from "./CatalogFile.ts"
import { EncodedCatalog } from "./EncodedCatalog.ts"
import * as searchIndex from "./searchIndex.ts"

/** A catalogue that was imported. */
export interface Imported extends CatalogFile.Summary {
  readonly catalogId: number
}

/** Tells an import from all others. The id alone does not: a database that was restored from a backup gives it again. */
export interface CatalogVersion {
  readonly catalogId: number
  readonly sha256: string
  /** In milliseconds since 1970 (UTC). */
  readonly importedAt: number
}

/** A catalogue in memory. */
export interface LoadedCatalog {
  readonly version: CatalogVersion
  readonly catalog: EncodedCatalog
}

export class CatalogStore extends Context.Service<
  CatalogStore,
  {
    /** Imports a file as the current catalogue, all of it or nothing. Concurrent imports run one after the other. */
    readonly importFile: (
      file: CatalogFile.CatalogFile
    ) => Effect.Effect<Imported, CatalogFile.CatalogFileError | DatabaseUnavailable>
    /** Imports a file unless one with the same content has been imported before. */
    readonly importOnce: (
      file: CatalogFile.CatalogFile
    ) => Effect.Effect<Option.Option<Imported>, CatalogFile.CatalogFileError | DatabaseUnavailable>
    /** The version of the current catalogue. None if no catalogue has been imported. */
    readonly current: Effect.Effect<Option.Option<CatalogVersion>, DatabaseUnavailable>
    /** The current catalogue. None if no catalogue has been imported. */
    readonly load: Effect.Effect<Option.Option<LoadedCatalog>, DatabaseUnavailable>
    /** Emits when another process may have imported a catalogue. Never for SQLite. */
    readonly notifications: Stream.Stream<void>
  }
>()("onlinebooks/recommendations/catalog/CatalogStore") {
  static readonly layer = Layer.effect(
    CatalogStore,
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { listen, notify, run, transaction } = yield* Database
      const sql = yield* SqlClient.SqlClient

      /** Ends with the transaction. SQLite has one writer at a time. */
      const lockImports = sql.onDialectOrElse({
        pg: () => Effect.asVoid(sql`SELECT pg_advisory_xact_lock(${importLock})`),
        orElse: () => Effect.void
      })

      const isImported = (sha256: string) =>
        Effect.map(sql`SELECT 1 FROM catalogs WHERE sha256 = ${sha256} LIMIT 1`, Arr.isReadonlyArrayNonEmpty)

      const insert = (books: Arr.NonEmptyReadonlyArray<Book>, catalogId: number) =>
        sql`INSERT INTO books ${sql.insert(Arr.map(books, (book) => toRow(book, catalogId)))}
          ON CONFLICT (book_id) DO UPDATE SET
            catalog_id = excluded.catalog_id, title = excluded.title, authors = excluded.authors, year = excluded.year,
            isbn10 = excluded.isbn10, categories = excluded.categories, folded_title = excluded.folded_title,
            words = excluded.words`

      /** For a transaction in which {@link lockImports} has run. */
      const importLocked = Effect.fnUntraced(
        function* (file: CatalogFile.CatalogFile) {
          const importedAt = yield* Clock.currentTimeMillis
          // the books refer to the row, whose other values are known when the file has been read
          const [{ catalog_id: catalogId }] = (yield* sql`INSERT INTO catalogs
          ${sql.insert({ sha256: "", book_count: 0, imported_at: importedAt })} RETURNING catalog_id`) as unknown as [
            { readonly catalog_id: number }
          ]
          const summary = yield* CatalogFile.read(file, (books) => insert(books, catalogId))
          yield* sql`UPDATE catalogs SET ${sql.update({ sha256: summary.sha256, book_count: summary.bookCount })}
          WHERE catalog_id = ${catalogId}`
          yield* searchIndex.complete(sql)
          yield* notify(channel)
          const imported: Imported = { ...summary, catalogId }
          return imported
        },
        Effect.provideService(FileSystem.FileSystem, fs)
      )

      const current = Effect.map(
        sql<CurrentRow>`SELECT catalog_id, sha256, imported_at FROM catalogs ORDER BY catalog_id DESC LIMIT 1`,
        ([row]) =>
          Option.fromUndefinedOr(row && { catalogId: row.catalog_id, sha256: row.sha256, importedAt: row.imported_at })
      )

      /** Reads the books of a catalogue, page by page. If another catalogue is imported meanwhile, some are missing. */
      const loadBooks = Effect.fnUntraced(function* (catalogId: number) {
        const catalog = new EncodedCatalog()
        let after = 0
        for (;;) {
          const rows = yield* sql<BookRow>`SELECT ${sql.literal(bookColumns)} FROM books
            WHERE catalog_id = ${catalogId} AND book_id > ${after} ORDER BY book_id LIMIT ${pageSize}`
          for (const row of rows) catalog.add(fromRow(row))
          if (rows.length < pageSize) return catalog
          after = rows[rows.length - 1]!.book_id
        }
      })

      const loadCurrent: Effect.Effect<Option.Option<LoadedCatalog>, SqlError.SqlError> = Effect.gen(function* () {
        const version = yield* current
        if (Option.isNone(version)) return Option.none()
        const catalog = yield* loadBooks(version.value.catalogId)
        // an import gives all of its books another catalog_id, and appears as a whole
        return Equal.equals(yield* current, version)
          ? Option.some({ version: version.value, catalog })
          : yield* loadCurrent
      })

      return CatalogStore.of({
        importFile: (file) =>
          transaction("catalogs.import", Effect.andThen(lockImports, importLocked(file)), { timeout: importTimeout }),
        importOnce: Effect.fnUntraced(function* (file) {
          const sha256 = yield* Effect.provideService(CatalogFile.sha256(file), FileSystem.FileSystem, fs)
          if (yield* run("catalogs.find", isImported(sha256))) return Option.none()
          const importUnlessImported = Effect.gen(function* () {
            yield* lockImports
            // another process may have imported it meanwhile
            return (yield* isImported(sha256)) ? Option.none() : Option.some(yield* importLocked(file))
          })
          return yield* transaction("catalogs.import", importUnlessImported, { timeout: importTimeout })
        }),
        current: run("catalogs.current", current),
        load: run("catalogs.load", loadCurrent, { timeout: loadTimeout }),
        notifications: listen(channel)
      })
    })
  )
}

interface CurrentRow {
  readonly catalog_id: number
  readonly sha256: string
  readonly imported_at: number
}

const channel = "catalogs"

/** The key of PostgreSQL's advisory lock of imports: any number that no other lock of the database has. */
const importLock = 7_201_855_002

/** How long a large import may take, with those that it waits for. */
const importTimeout = "30 minutes"

/** The number of books that are loaded together. */
const pageSize = 1_000

/** How long it may take to load a large catalogue. */
const loadTimeout = "5 minutes"
