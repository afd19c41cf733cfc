/**
 * The error of a gRPC client.
 */
import { Schema } from "effect"

import { isStatus } from "./Status.ts"

const StatusSchema = Schema.declare(isStatus)

/**
 * A call that ended with a status other than OK. The `reason` is that status, and its `_tag` is the name of the status:
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

  /** Whether a retry may succeed, if the method is idempotent: true for UNAVAILABLE. */
  get isRetryable(): boolean {
    return this.reason._tag === "Unavailable"
  }
}
