/**
 * The errors of operations of a database: those of its client, and that an operation took too long.
 */
import { Cause, Schema } from "effect"
import { SqlError } from "effect/sql"

import * as sqlErrors from "./sqlErrors.ts"

/** The operation did not end in time. */
export class OperationTimeout extends Schema.TaggedError<OperationTimeout>()("layers/sql/OperationTimeout", {
  millis: Schema.Number
}) {}

/** An error whose reason is outside of the program. */
export type Expected = SqlError.SqlError | OperationTimeout

/** Whether an error has its reason outside of the program. */
export const isExpected = (error: unknown): error is Expected =>
  error instanceof OperationTimeout || (SqlError.isSqlError(error) && sqlErrors.kindOf(error) !== "bug")

/** When the connection is lost in a transaction, its rollback fails too, as a defect. */
export const errorOf = (reason: Cause.Reason<unknown>): unknown =>
  Cause.isFailReason(reason) ? reason.error : Cause.isDieReason(reason) ? reason.defect : undefined

/** A line for an operator. */
export const describeError = (error: Expected): string =>
  error instanceof OperationTimeout ? `no answer within ${error.millis} ms` : sqlErrors.describe(error)

/** Whether the database cannot be reached. */
export const isOutage = (error: unknown): boolean => SqlError.isSqlError(error) && sqlErrors.kindOf(error) === "outage"

/** A code of which there are few, for each kind of error. */
export const codeOf = (error: Expected): unknown =>
  error instanceof OperationTimeout ? error.millis : sqlErrors.codeOf(error)
