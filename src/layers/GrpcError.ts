/**
 * The one error of a gRPC client.
 */
import { Predicate, Schema } from "effect"

import { codes, type Status } from "./Status.ts"

const StatusSchema = Schema.declare(
  (u: unknown): u is Status => Predicate.hasProperty(u, "_tag") && Predicate.isString(u._tag) && u._tag in codes
)

/**
 * A call that did not end with OK. Its `reason` is the status, whose `_tag` is the status' name:
 * `Effect.catchReason("GrpcError", "NotFound", (status) => ...)`.
 */
export class GrpcError extends Schema.TaggedError<GrpcError>()("GrpcError", {
  /** The method that was called, as "package.Service/Method". */
  method: Schema.String,
  reason: StatusSchema
}) {
  override get message(): string {
    return `${this.method}: ${this.reason._tag}: ${this.reason.message}`
  }

  /** Whether calling again may help, when the method can be called twice: only an unavailable server is passing. */
  get isRetryable(): boolean {
    return this.reason._tag === "Unavailable"
  }
}
