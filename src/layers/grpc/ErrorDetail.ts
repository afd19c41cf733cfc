/**
 * The machine-readable details of a gRPC error, after https://google.aip.dev/193.
 */
import { Data, type Duration } from "effect"

/** An invalid field of a request. */
export interface FieldViolation {
  /** The path of the field in the proto, with dots: "book.title". */
  readonly field: string
  readonly description: string
}

/** One detail of an error. */
export type ErrorDetail = Data.TaggedEnum<{
  /** The invalid fields of the request. */
  BadRequest: { readonly fieldViolations: ReadonlyArray<FieldViolation> }
  /** The machine-readable cause of the failure. The reason is in UPPER_SNAKE_CASE and unique in its domain. */
  ErrorInfo: {
    readonly reason: string
    readonly domain: string
    readonly metadata: { readonly [key: string]: string }
  }
  /** How long a client should wait before it retries. */
  RetryInfo: { readonly retryDelay: Duration.Duration }
  /** The id of the call in the server's log. */
  RequestInfo: { readonly requestId: string }
  /** Any other message, as in a google.protobuf.Any. */
  Unknown: { readonly typeUrl: string; readonly value: Uint8Array }
}>

export const { BadRequest, ErrorInfo, RequestInfo, RetryInfo, Unknown, $match: match } = Data.taggedEnum<ErrorDetail>()
