/**
 * The machine-readable details of a gRPC error, after https://google.aip.dev/193.
 */
import { Data, type Duration } from "effect"

/** A field of a request, and what is wrong with it. */
export interface FieldViolation {
  /** The field's name in the proto, with dots before fields of fields. */
  readonly field: string
  readonly description: string
}

/** One detail of an error. What is of a kind that is not known here is kept as it came. */
export type ErrorDetail = Data.TaggedEnum<{
  /** Which fields of the request are wrong. */
  BadRequest: { readonly fieldViolations: ReadonlyArray<FieldViolation> }
  /** Why the call failed, for programs: an UPPER_SNAKE_CASE reason, unique in its domain. */
  ErrorInfo: {
    readonly reason: string
    readonly domain: string
    readonly metadata: { readonly [key: string]: string }
  }
  /** How long a client should wait before it calls again. */
  RetryInfo: { readonly retryDelay: Duration.Duration }
  /** What to quote when reporting the failure. */
  RequestInfo: { readonly requestId: string }
  /** Any other message, as a google.protobuf.Any has it. */
  Unknown: { readonly typeUrl: string; readonly value: Uint8Array }
}>

export const { BadRequest, ErrorInfo, RequestInfo, RetryInfo, Unknown, $match: match } = Data.taggedEnum<ErrorDetail>()
