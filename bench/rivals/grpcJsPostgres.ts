/**
 * The service on grpc-js and pg: a transaction for each call, and a statement for all of its records.
 */
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"

import { Pool, type PoolClient, types } from "pg"

import {
  type BookRow,
  counts,
  type Counts,
  excludingKinds,
  type Feedback,
  type FeedbackRow,
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

// BIGINT as a number
types.setTypeParser(types.builtins.INT8, Number)

const pool = new Pool({
  connectionString: process.env["DATABASE_URL"],
  max: 10,
  statement_timeout: 5_000,
  idle_in_transaction_session_timeout: 5_000
})

await pool.query(`
  CREATE TABLE IF NOT EXISTS catalogs (
    catalog_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sha256 TEXT NOT NULL, book_count INTEGER NOT NULL,
    imported_at BIGINT NOT NULL
  );
  CREATE TABLE IF NOT EXISTS books (
    book_id INTEGER PRIMARY KEY, catalog_id BIGINT NOT NULL, title TEXT NOT NULL, authors TEXT NOT NULL, year INTEGER,
    isbn10 TEXT, categories TEXT NOT NULL, folded_title TEXT NOT NULL, words TEXT NOT NULL,
    words_vector tsvector GENERATED ALWAYS AS (array_to_tsvector(string_to_array(words, ' '))) STORED
  );
  CREATE INDEX IF NOT EXISTS books_words ON books USING gin (words_vector);
  CREATE TABLE IF NOT EXISTS readers (user_id INTEGER PRIMARY KEY, version BIGINT NOT NULL, forgotten_at BIGINT);
  CREATE TABLE IF NOT EXISTS feedback (
    sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, feedback_id TEXT NOT NULL UNIQUE, user_id INTEGER NOT NULL,
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

const transaction = async <A>(work: (client: PoolClient) => Promise<A>): Promise<A> => {
  const client = await pool.connect()
  try {
    await client.query("BEGIN")
    const result = await work(client)
    await client.query("COMMIT")
    return result
  } catch (error) {
    await client.query("ROLLBACK")
    throw error
  } finally {
    client.release()
  }
}

const importOnce = (text: string): Promise<void> => {
  const sha256 = createHash("sha256").update(text).digest("hex")
  return transaction(async (client) => {
    await client.query("SELECT pg_advisory_xact_lock(1)")
    if ((await client.query("SELECT 1 FROM catalogs WHERE sha256 = $1", [sha256])).rows.length > 0) return
    const books = parse(text)
    const { rows } = await client.query<{ readonly catalog_id: number }>(
      "INSERT INTO catalogs (sha256, book_count, imported_at) VALUES ($1, $2, $3) RETURNING catalog_id",
      [sha256, books.length, Date.now()]
    )
    await client.query(
      `INSERT INTO books (catalog_id, book_id, title, authors, year, isbn10, categories, folded_title, words)
      SELECT $1, input.* FROM json_to_recordset($2::json) AS input(
        book_id INTEGER, title TEXT, authors TEXT, year INTEGER, isbn10 TEXT, categories TEXT, folded_title TEXT, words TEXT
      )
      ON CONFLICT (book_id) DO UPDATE SET
        catalog_id = excluded.catalog_id, title = excluded.title, authors = excluded.authors, year = excluded.year,
        isbn10 = excluded.isbn10, categories = excluded.categories, folded_title = excluded.folded_title,
        words = excluded.words`,
      [rows[0]!.catalog_id, JSON.stringify(books.map(toBookRow))]
    )
    await client.query("SELECT gin_clean_pending_list('books_words')")
    await client.query("ANALYZE books")
  })
}

await importOnce(readFileSync(process.env["CATALOG_FILE"] ?? "data/books.csv", "utf8"))

const bookColumns = "book_id, title, authors, year, isbn10, categories"

const { rows: books } = await pool.query<BookRow>(
  `SELECT ${bookColumns} FROM books WHERE catalog_id = (SELECT MAX(catalog_id) FROM catalogs) ORDER BY book_id`
)
const catalogue = group(books.map(fromBookRow))

const now = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"

const lockReaders = `
  INSERT INTO readers (user_id, version)
  SELECT input.user_id, 1 FROM unnest($1::integer[]) AS input(user_id)
  WHERE input.user_id < ${firstCreatedId} OR EXISTS (SELECT 1 FROM readers known WHERE known.user_id = input.user_id)
  ORDER BY input.user_id
  ON CONFLICT (user_id) DO UPDATE SET version = readers.version + 1, forgotten_at = CASE
    WHEN readers.user_id < ${firstCreatedId} AND readers.forgotten_at <= ${now} - 86400000 THEN NULL
    ELSE readers.forgotten_at
  END
  RETURNING user_id, forgotten_at, ${now} AS now`

const findUnknownBooks = `
  SELECT input.book_id FROM unnest($1::integer[]) AS input(book_id)
  WHERE NOT EXISTS (SELECT 1 FROM books WHERE books.book_id = input.book_id)`

const findTimes = `
  SELECT user_id, book_id, happened_at FROM unnest($1::integer[], $2::integer[]) AS input(user_id, book_id)
  JOIN reader_books USING (user_id, book_id)`

const insertFeedback = `
  INSERT INTO feedback (feedback_id, user_id, book_id, kind, rating, happened_at, recommendation_id)
  SELECT * FROM unnest($1::text[], $2::integer[], $3::integer[], $4::smallint[], $5::smallint[], $6::bigint[], $7::text[])
  ON CONFLICT (feedback_id) DO NOTHING
  RETURNING feedback_id, sequence`

const updateReaderBooks = `
  INSERT INTO reader_books (user_id, book_id, kind, rating, happened_at, sequence)
  SELECT * FROM unnest($1::integer[], $2::integer[], $3::smallint[], $4::smallint[], $5::bigint[], $6::bigint[])
  ON CONFLICT (user_id, book_id) DO UPDATE SET
    kind = excluded.kind, rating = excluded.rating, happened_at = excluded.happened_at, sequence = excluded.sequence
  WHERE (excluded.happened_at, excluded.sequence) > (reader_books.happened_at, reader_books.sequence)`

const columns = <Row, Name extends keyof Row>(rows: ReadonlyArray<Row>, names: ReadonlyArray<Name>) =>
  names.map((name) => rows.map((row) => row[name]))

const record = (feedback: ReadonlyArray<Feedback>): Promise<Counts> =>
  transaction(async (client) => {
    const bookIds = [...new Set(feedback.map(({ bookId }) => bookId))]
    const { rows: unknown } = await client.query<{ readonly book_id: number }>(findUnknownBooks, [bookIds])
    if (unknown.length > 0) throw new Invalid(`unknown books ${unknown.map(({ book_id }) => book_id).join(", ")}`)

    const userIds = [...new Set(feedback.map(({ userId }) => userId))]
    const { rows: readers } = await client.query<{
      readonly user_id: number
      readonly forgotten_at: number | null
      readonly now: number
    }>(lockReaders, [userIds])
    if (readers.length < userIds.length) throw new Invalid("unknown readers")
    const forgotten = new Set(readers.filter((row) => row.forgotten_at !== null).map(({ user_id }) => user_id))
    const accepted = feedback.filter(({ userId }) => !forgotten.has(userId))

    const times = new Map<string, number>()
    const untimed = accepted.filter(({ happenedAt }) => happenedAt === null)
    if (untimed.length > 0) {
      const found = await client.query<FeedbackRow>(findTimes, columns(untimed, ["userId", "bookId"]))
      for (const { book_id, happened_at, user_id } of found.rows) times.set(`${user_id}:${book_id}`, happened_at)
    }
    const rows = accepted.map((one) => {
      const pair = `${one.userId}:${one.bookId}`
      const latest = times.get(pair) ?? -1
      const happenedAt = timeOf(one) ?? Math.max(readers[0]!.now, latest + 1)
      if (counts(one.kind)) times.set(pair, Math.max(latest, happenedAt))
      return { ...one, feedbackId: one.feedbackId.toLowerCase(), rating: one.rating || null, happenedAt }
    })
    const { rows: inserted } = await client.query<{ readonly feedback_id: string; readonly sequence: number }>(
      insertFeedback,
      columns(rows, ["feedbackId", "userId", "bookId", "kind", "rating", "happenedAt", "recommendationId"])
    )
    const sequences = new Map(inserted.map(({ feedback_id, sequence }) => [feedback_id, sequence]))
    const current = new Map<string, (typeof rows)[number] & { readonly sequence: number }>()
    for (const row of rows) {
      const sequence = sequences.get(row.feedbackId)
      const pair = `${row.userId}:${row.bookId}`
      if (sequence === undefined || !counts(row.kind)) continue
      if ((current.get(pair)?.happenedAt ?? -1) <= row.happenedAt) current.set(pair, { ...row, sequence })
    }
    if (current.size > 0) {
      const values = [...current.values()]
      await client.query(
        updateReaderBooks,
        columns(values, ["userId", "bookId", "kind", "rating", "happenedAt", "sequence"])
      )
    }
    return {
      recordedCount: sequences.size,
      duplicateCount: accepted.length - sequences.size,
      droppedCount: feedback.length - accepted.length
    }
  })

const list = async (userId: number, limit: number) => {
  const { rows } = await pool.query<ListedRow>(
    `SELECT sequence, feedback_id, user_id, kind, rating, happened_at, recommendation_id, ${bookColumns}
    FROM feedback JOIN books USING (book_id)
    WHERE user_id = $1 ORDER BY happened_at DESC, sequence DESC LIMIT $2`,
    [userId, limit]
  )
  return rows
}

const search = async ({ limit, words }: Search) => {
  const query = `${words.map((word) => `'${word}'`).join(" & ")}:*`
  const { rows } = await pool.query<MatchRow>(
    `SELECT * FROM (
      SELECT ${bookColumns},
        CASE WHEN folded_title = $2 THEN 0 WHEN substr(folded_title, 1, length($2)) = $2 THEN 1 ELSE 2 END AS title_match,
        length(folded_title) AS title_length
      FROM books
      WHERE catalog_id = (SELECT MAX(catalog_id) FROM catalogs) AND words_vector @@ CAST($1 AS tsquery)
    ) AS ranked
    ORDER BY title_match, title_length, book_id
    LIMIT $3`,
    [query, words.join(" "), limit]
  )
  return rows
}

const excluded = async (userId: number): Promise<ReadonlySet<number>> => {
  if (userId === 0) return new Set()
  const { rows } = await pool.query<{ readonly book_id: number }>(
    `SELECT book_id FROM reader_books WHERE user_id = $1 AND kind IN (${excludingKinds.join(", ")})`,
    [userId]
  )
  return new Set(rows.map(({ book_id }) => book_id))
}

serve({ catalogue, record, list, search, excluded })
