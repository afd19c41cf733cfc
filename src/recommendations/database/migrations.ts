/**
 * The tables of the shop. Times are milliseconds since 1970 (UTC); kinds of feedback are their numbers in the API.
 *
 * A migration is never changed after a release. During a rollout the previous release runs on the new schema, so a migration only adds;
 * what the new release no longer uses is removed by a migration of the release after it (docs/decisions/0021-migrations.md).
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

import * as Migrations from "../../layers/sql/Migrations.ts"

/** A primary key that the database assigns in ascending order. */
const identity = (sql: SqlClient.SqlClient) =>
  sql.onDialectOrElse({
    pg: () => sql.literal("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    orElse: () => sql.literal("INTEGER PRIMARY KEY AUTOINCREMENT")
  })

/** Books, and the catalogues that were imported. */
const createCatalog = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  // one row for each import; the last one is the current catalogue
  yield* sql`CREATE TABLE catalogs (
    catalog_id ${identity(sql)},
    sha256 TEXT NOT NULL,
    book_count INTEGER NOT NULL,
    imported_at BIGINT NOT NULL
  )`
  yield* sql`CREATE INDEX catalogs_sha256 ON catalogs (sha256)`
  // every book that was ever imported; catalog_id is the last catalogue that has it
  yield* sql`CREATE TABLE books (
    book_id INTEGER PRIMARY KEY,
    catalog_id BIGINT NOT NULL,
    title TEXT NOT NULL,
    authors TEXT NOT NULL,
    year INTEGER,
    isbn10 TEXT,
    categories TEXT NOT NULL,
    folded_title TEXT NOT NULL,
    words TEXT NOT NULL
  )`
  yield* sql.onDialectOrElse({
    // the array is used as it is, since a text search parser would split words by the rules of the database's locale
    pg: () =>
      Effect.andThen(
        sql`ALTER TABLE books ADD COLUMN words_vector tsvector
          GENERATED ALWAYS AS (array_to_tsvector(string_to_array(words, ' '))) STORED`,
        sql`CREATE INDEX books_words ON books USING gin (words_vector)`
      ),
    // this tokenizer splits at ASCII punctuation and spaces alone, and folded words have none
    orElse: () =>
      sql`CREATE VIRTUAL TABLE books_words USING fts5(words, content = 'books', content_rowid = 'book_id', tokenize = 'ascii')`
  })
})

/** Readers, and what they did and said. */
const createReaders = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  // the row is also the lock of a reader's records, and after `forgotten_at` all that is left of the reader
  yield* sql`CREATE TABLE readers (
    user_id INTEGER PRIMARY KEY,
    version BIGINT NOT NULL,
    forgotten_at BIGINT
  )`
  yield* sql`CREATE TABLE reader_requests (
    request_id TEXT PRIMARY KEY,
    user_id INTEGER NOT NULL
  )`
  yield* sql`CREATE INDEX reader_requests_reader ON reader_requests (user_id)`
  yield* sql`CREATE TABLE reader_ids (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    next_id BIGINT NOT NULL
  )`
  yield* sql`INSERT INTO reader_ids (singleton, next_id) VALUES (1, 1000000000)`
  // append-only
  yield* sql`CREATE TABLE feedback (
    sequence ${identity(sql)},
    feedback_id TEXT NOT NULL UNIQUE,
    user_id INTEGER NOT NULL,
    book_id INTEGER NOT NULL,
    kind SMALLINT NOT NULL,
    rating SMALLINT,
    happened_at BIGINT NOT NULL,
    recommendation_id TEXT NOT NULL
  )`
  yield* sql`CREATE INDEX feedback_reader ON feedback (user_id, happened_at, sequence)`
  yield* sql`CREATE INDEX feedback_impressions ON feedback (happened_at) WHERE kind = 1`
  // the feedback that counts now for each reader and book; retracted books stay, so that older feedback that arrives late does not count
  yield* sql`CREATE TABLE reader_books (
    user_id INTEGER NOT NULL,
    book_id INTEGER NOT NULL,
    kind SMALLINT NOT NULL,
    rating SMALLINT,
    happened_at BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (user_id, book_id)
  )`
})

/** All migrations, in the order in which they run. */
export const migrations: ReadonlyArray<Migrations.Migration> = [
  { id: 1, name: "create_catalog", run: createCatalog },
  { id: 2, name: "create_readers", run: createReaders }
]
