/**
 * Rows as one parameter of a statement, in JSON: the text of the statement is the same for any number of rows, so that it stays prepared,
 * and no limit of parameters applies.
 *
 * ```ts
 * sql`INSERT INTO points (x, y) SELECT x, y FROM ${jsonRows(sql, { x: "INTEGER", y: "INTEGER" }, points)}`
 * ```
 *
 * In SQLite a statement that continues with ON CONFLICT needs `WHERE true` after it. Texts must not contain U+0000.
 */
import type { SqlClient, Statement } from "effect/sql"

/** A relation called `input` of rows, in their order, with these columns. */
export const jsonRows = <Column extends string>(
  sql: SqlClient.SqlClient,
  columns: { readonly [Name in Column]: "SMALLINT" | "INTEGER" | "BIGINT" | "TEXT" },
  rows: ReadonlyArray<{ readonly [Name in Column]: number | string | undefined }>
): Statement.Fragment =>
  sql.onDialectOrElse({
    pg: () => {
      const definitions = Object.entries(columns)
        .map((column) => column.join(" "))
        .join(", ")
      return sql`json_to_recordset(${JSON.stringify(rows)}::json) AS input(${sql.literal(definitions)})`
    },
    // arrays, which SQLite reads in less time than objects, or only the values of a single column
    orElse: () => {
      const names = Object.keys(columns) as unknown as ReadonlyArray<Column>
      const [first, ...others] = names
      const isSingle = first !== undefined && others.length === 0
      const values = isSingle ? `value AS ${first}` : names.map((name, at) => `value ->> ${at} AS ${name}`).join(", ")
      const json = JSON.stringify(rows.map((row) => (isSingle ? row[first] : names.map((name) => row[name]))))
      return sql`(SELECT ${sql.literal(values)} FROM json_each(${json})) AS input`
    }
  })
