/**
 * The error for fields that are out of range, which all operations of the domain share.
 */
import { Schema } from "effect"

/** A field is out of range. */
const Violation = Schema.Struct({
  /** The path of the field in the query, in camel case, such as `maxResults` or `feedback[3].rating`. */
  field: Schema.String,
  /** The expected value. */
  description: Schema.String
})

export type Violation = typeof Violation.Type

/** Fields of the query are out of range. Every one of them is listed. */
export class InvalidQuery extends Schema.TaggedError<InvalidQuery>()("InvalidQuery", {
  violations: Schema.Array(Violation)
}) {
  override get message() {
    return this.violations.map(({ description, field }) => `${field}: ${description}`).join("; ")
  }
}
