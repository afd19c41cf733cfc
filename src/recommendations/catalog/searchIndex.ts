/**
 * The index of words that {@link DatabaseSearch} uses.
 */
import { Effect } from "effect"
import type { SqlClient } from "effect/sql"

/**
 * Completes the index after many books were written, in their transaction. SQLite fills it only here. PostgreSQL updates it with each row,
 * but reads all books instead while rows wait in the index's pending list, or while the table has no statistics
 * (https://www.postgresql.org/docs/current/gin.html#GIN-FAST-UPDATE).
 */
export const complete = (sql: SqlClient.SqlClient) =>
  sql.onDialectOrElse({
    pg: () => Effect.asVoid(Effect.andThen(sql`SELECT gin_clean_pending_list('books_words')`, sql`ANALYZE books`)),
    orElse: () => Effect.asVoid(sql`INSERT INTO books_words (books_words) VALUES ('rebuild')`)
  })
