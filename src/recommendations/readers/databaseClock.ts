/**
 * The clock of the database, which all replicas share.
 */
import type { SqlClient, Statement } from "effect/sql"

/** The time of the statement in milliseconds since 1970 (UTC). In PostgreSQL it is that at which the expression is evaluated. */
export const now = (sql: SqlClient.SqlClient): Statement.Fragment =>
  sql.onDialectOrElse({
    pg: () => sql`CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)`,
    orElse: () => sql`CAST(unixepoch('subsec') * 1000 AS INTEGER)`
  })
