/**
 * Catalogue files for tests of the store.
 */
import { NodeFileSystem } from "@effect/platform-node"
import { Effect, FileSystem, Layer, type Scope } from "effect"

import type { Book } from "../../src/domain/Book.ts"
import type { DatabaseUrl } from "../../src/layers/sql/DatabaseUrl.ts"
import type { CatalogFile } from "../../src/recommendations/catalog/CatalogFile.ts"
import * as catalogRow from "../../src/recommendations/catalog/catalogRow.ts"
import { CatalogStore } from "../../src/recommendations/catalog/CatalogStore.ts"
import * as DatabaseSearch from "../../src/recommendations/catalog/DatabaseSearch.ts"
import { connect } from "./StorageTest.ts"

/** The content of the catalogue file with these books. */
export const csvOf = (books: ReadonlyArray<Book>): string => {
  const rows = books.map(({ authors, categories, id, isbn10 = "", title, year = "" }) =>
    [id, title, authors.join(","), year, isbn10, categories.join(";")]
      .map((cell) => `"${String(cell).replaceAll('"', '""')}"`)
      .join(",")
  )
  return [catalogRow.header, ...rows, ""].join("\n")
}

/** Writes a file, which is deleted when the scope closes. */
export const fileOf = (content: string): Effect.Effect<CatalogFile, never, Scope.Scope> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* fs.makeTempFileScoped({ prefix: "catalogue-", suffix: ".csv" })
    yield* fs.writeFileString(path, content)
    const file: CatalogFile = { variable: "FILE", path, maxSize: 100_000_000 }
    return file
  }).pipe(Effect.orDie, Effect.provide(NodeFileSystem.layer))

/** Writes a catalogue file. */
export const catalogFileOf = (books: ReadonlyArray<Book>) => fileOf(csvOf(books))

/** A process's connection to a database, with the services of the catalogue. */
export const connectCatalog = (url: DatabaseUrl) =>
  Layer.mergeAll(CatalogStore.layer, DatabaseSearch.layer).pipe(
    Layer.provide(NodeFileSystem.layer),
    Layer.provideMerge(connect(url))
  )
