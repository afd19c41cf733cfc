/**
 * The service on grpc-js and node:sqlite, whose calls block the event loop: a transaction for each call, and a prepared statement for each
 * record.
 */
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { DatabaseSync, type SQLInputValue } from "node:sqlite"

import {
  type BookRow,
  counts,
  type Counts,
  excludingKinds,
  type Feedback,
  firstCreatedId,
  fromBookRow,
  Invalid,
  type ListedRow,
  type MatchRow,
  type Search,
  serve,
  timeOf,
  toBookRow
} from "./bookshop.ts"
import { group, parse } from "./catalogue.ts"

const database = new DatabaseSync(process.env["DATABASE_URL"]!.slice("sqlite:".length), { timeout: 2_000 })
database.exec(`
  PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
  CREATE TABLE IF NOT EXISTS catalogs (
    catalog_id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 TEXT NOT NULL, book_count INTEGER NOT NULL, imported_at BIGINT NOT NULL
  );
  CREATE INDEX IF NOT EXISTS catalogs_sha256 ON catalogs (sha256);
  CREATE TABLE IF NOT EXISTS books (
    book_id INTEGER PRIMARY KEY, catalog_id BIGINT NOT NULL, title TEXT NOT NULL, authors TEXT NOT NULL, year INTEGER,
    isbn10 TEXT, categories TEXT NOT NULL, folded_title TEXT NOT NULL, words TEXT NOT NULL
  );
  CREATE VIRTUAL TABLE IF NOT EXISTS books_words
    USING fts5(words, content = 'books', content_rowid = 'book_id', tokenize = 'ascii');
  CREATE TABLE IF NOT EXISTS readers (user_id INTEGER PRIMARY KEY, version BIGINT NOT NULL, forgotten_at BIGINT);
  CREATE TABLE IF NOT EXISTS reader_requests (request_id TEXT PRIMARY KEY, user_id INTEGER NOT NULL);
  CREATE INDEX IF NOT EXISTS reader_requests_reader ON reader_requests (user_id);
  CREATE TABLE IF NOT EXISTS reader_ids (singleton INTEGER PRIMARY KEY CHECK (singleton = 1), next_id BIGINT NOT NULL);
  CREATE TABLE IF NOT EXISTS feedback (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, feedback_id TEXT NOT NULL UNIQUE, user_id INTEGER NOT NULL,
    book_id INTEGER NOT NULL, kind SMALLINT NOT NULL, rating SMALLINT, happened_at BIGINT NOT NULL,
    recommendation_id TEXT NOT NULL
  );
  CREATE INDEX IF NOT EXISTS feedback_reader ON feedback (user_id, happened_at, sequence);
  CREATE INDEX IF NOT EXISTS feedback_impressions ON feedback (happened_at) WHERE kind = 1;
  CREATE TABLE IF NOT EXISTS reader_books (
    user_id INTEGER NOT NULL, book_id INTEGER NOT NULL, kind SMALLINT NOT NULL, rating SMALLINT, happened_at BIGINT NOT NULL,
    sequence BIGINT NOT NULL, PRIMARY KEY (user_id, book_id)
  );
`)

const transaction = <A>(work: () => A): A => {
  database.exec("BEGIN IMMEDIATE")
  try {
    const result = work()
    database.exec("COMMIT")
    return result
  } catch (error) {
    database.exec("ROLLBACK")
    throw error
  }
}

const importOnce = (text: string): void => {
  const sha256 = createHash("sha256").update(text).digest("hex")
  transaction(() => {
    if (database.prepare("SELECT 1 FROM catalogs WHERE sha256 = ?").get(sha256) !== undefined) return
    const books = parse(text)
    const { lastInsertRowid } = database
      .prepare("INSERT INTO catalogs (sha256, book_count, imported_at) VALUES (?, ?, ?)")
      .run(sha256, books.length, Date.now())
    const insert = database.prepare(`
      INSERT INTO books (catalog_id, book_id, title, authors, year, isbn10, categories, folded_title, words)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (book_id) DO UPDATE SET
        catalog_id = excluded.catalog_id, title = excluded.title, authors = excluded.authors, year = excluded.year,
        isbn10 = excluded.isbn10, categories = excluded.categories, folded_title = excluded.folded_title,
        words = excluded.words`)
    for (const book of books) insert.run(lastInsertRowid, ...Object.values(toBookRow(book)))
    database.exec("INSERT INTO books_words (books_words) VALUES ('rebuild')")
  })
}

importOnce(readFileSync(process.env["CATALOG_FILE"] ?? "data/books.csv", "utf8"))

const rows = <Row>(statement: { all: (...params: Array<SQLInputValue>) => unknown }, ...params: Array<SQLInputValue>) =>
  statement.all(...params) as ReadonlyArray<Row>

const bookColumns = "book_id, title, authors, year, isbn10, categories"

const catalogue = group(
  rows<BookRow>(
    database.prepare(
      `SELECT ${bookColumns} FROM books WHERE catalog_id = (SELECT MAX(catalog_id) FROM catalogs) ORDER BY book_id`
    )
  ).map(fromBookRow)
)

const findBook = database.prepare("SELECT 1 FROM books WHERE book_id = ?")
const findTime = database.prepare("SELECT happened_at FROM reader_books WHERE user_id = ? AND book_id = ?")
const lockReader = database.prepare(`
  INSERT INTO readers (user_id, version)
  SELECT ?1, 1 WHERE ?1 < ${firstCreatedId} OR EXISTS (SELECT 1 FROM readers WHERE user_id = ?1)
  ON CONFLICT (user_id) DO UPDATE SET version = readers.version + 1, forgotten_at = CASE
    WHEN readers.user_id < ${firstCreatedId} AND readers.forgotten_at <= unixepoch('subsec') * 1000 - 86400000 THEN NULL
    ELSE readers.forgotten_at
  END
  RETURNING forgotten_at`)
const insertFeedback = database.prepare(`
  INSERT INTO feedback (feedback_id, user_id, book_id, kind, rating, happened_at, recommendation_id)
  VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (feedback_id) DO NOTHING`)
const updateReaderBook = database.prepare(`
  INSERT INTO reader_books (user_id, book_id, kind, rating, happened_at, sequence) VALUES (?, ?, ?, ?, ?, ?)
  ON CONFLICT (user_id, book_id) DO UPDATE SET
    kind = excluded.kind, rating = excluded.rating, happened_at = excluded.happened_at, sequence = excluded.sequence
  WHERE (excluded.happened_at, excluded.sequence) > (reader_books.happened_at, reader_books.sequence)`)

const recordOne = (record: Feedback, now: number, result: Counts): void => {
  const { bookId, feedbackId, kind, recommendationId, userId } = record
  const rating = record.rating || null
  let time = timeOf(record)
  if (time === undefined) {
    const latest = findTime.get(userId, bookId) as { readonly happened_at: number } | undefined
    time = Math.max(now, (latest?.happened_at ?? -1) + 1)
  }
  const id = feedbackId.toLowerCase()
  const { changes, lastInsertRowid } = insertFeedback.run(id, userId, bookId, kind, rating, time, recommendationId)
  if (changes === 0) {
    result.duplicateCount++
    return
  }
  result.recordedCount++
  if (counts(kind)) updateReaderBook.run(userId, bookId, kind, rating, time, lastInsertRowid)
}

const record = (feedback: ReadonlyArray<Feedback>): Counts =>
  transaction(() => {
    const forgotten = new Map<number, boolean>()
    for (const userId of new Set(feedback.map(({ userId }) => userId))) {
      const row = lockReader.get(userId) as { readonly forgotten_at: number | null } | undefined
      if (row === undefined) throw new Invalid(`unknown reader ${userId}`)
      forgotten.set(userId, row.forgotten_at !== null)
    }
    for (const bookId of new Set(feedback.map(({ bookId }) => bookId))) {
      if (findBook.get(bookId) === undefined) throw new Invalid(`unknown book ${bookId}`)
    }
    const result: Counts = { recordedCount: 0, duplicateCount: 0, droppedCount: 0 }
    const now = Date.now()
    for (const one of feedback) {
      if (forgotten.get(one.userId) === true) result.droppedCount++
      else recordOne(one, now, result)
    }
    return result
  })

const selectFeedback = database.prepare(`
  SELECT sequence, feedback_id, user_id, kind, rating, happened_at, recommendation_id, ${bookColumns}
  FROM feedback JOIN books USING (book_id)
  WHERE user_id = ? ORDER BY happened_at DESC, sequence DESC LIMIT ?`)

const list = (userId: number, limit: number) => rows<ListedRow>(selectFeedback, userId, limit)

const searchBooks = database.prepare(`
  SELECT * FROM (
    SELECT ${bookColumns},
      CASE WHEN folded_title = ?2 THEN 0 WHEN substr(folded_title, 1, length(?2)) = ?2 THEN 1 ELSE 2 END AS title_match,
      length(folded_title) AS title_length
    FROM books
    WHERE catalog_id = (SELECT MAX(catalog_id) FROM catalogs)
      AND book_id IN (SELECT rowid FROM books_words WHERE books_words MATCH ?1)
  ) AS ranked
  ORDER BY title_match, title_length, book_id
  LIMIT ?3`)

const search = ({ limit, words }: Search) =>
  rows<MatchRow>(searchBooks, `${words.map((word) => `"${word}"`).join(" ")}*`, words.join(" "), limit)

const selectExcluded = database.prepare(
  `SELECT book_id FROM reader_books WHERE user_id = ? AND kind IN (${excludingKinds.join(", ")})`
)

const excluded = (userId: number): ReadonlySet<number> =>
  userId === 0
    ? new Set()
    : new Set(rows<{ readonly book_id: number }>(selectExcluded, userId).map(({ book_id }) => book_id))

serve({ catalogue, record, list, search, excluded })
