/**
 * The one error of a gRPC client.
 */
import { Schema } from "effect"

import { isStatus } from "./Status.ts"

const StatusSchema = Schema.declare(isStatus)

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
