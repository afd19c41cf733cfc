/**
 * Encodes a {@link Status} for grpc-js, and decodes it. Details are sent as a google.rpc.Status in the trailer grpc-status-details-bin
 * (https://grpc.io/docs/guides/error/).
 */
import { Metadata, type StatusObject } from "@grpc/grpc-js"
import { Duration, Option } from "effect"

import * as EmbeddedProtos from "./EmbeddedProtos.ts"
import { BadRequest, type ErrorDetail, ErrorInfo, match, RequestInfo, RetryInfo, Unknown } from "./ErrorDetail.ts"
import definitions from "./generated/rpc/definitions.ts"
import type * as BadRequestProto from "./generated/rpc/google/rpc/BadRequest.ts"
import type * as ErrorInfoProto from "./generated/rpc/google/rpc/ErrorInfo.ts"
import type * as RequestInfoProto from "./generated/rpc/google/rpc/RequestInfo.ts"
import type * as RetryInfoProto from "./generated/rpc/google/rpc/RetryInfo.ts"
import type * as StatusProto from "./generated/rpc/google/rpc/Status.ts"
import { fromCode, internal, type Status, unknown } from "./Status.ts"

const trailer = "grpc-status-details-bin"

/** How a message is encoded and decoded. */
interface Codec<In, Out> {
  readonly encode: (message: In) => Buffer
  readonly decode: (bytes: Uint8Array) => Out
}

const codec = <In extends object, Out extends object>(name: string) =>
  EmbeddedProtos.codec(definitions, `google.rpc.${name}`) as unknown as Codec<In, Out>

/** The messages of google.rpc that are used here. */
const messages = {
  Status: codec<StatusProto.Status, StatusProto.Status__Output>("Status"),
  BadRequest: codec<BadRequestProto.BadRequest, BadRequestProto.BadRequest__Output>("BadRequest"),
  ErrorInfo: codec<ErrorInfoProto.ErrorInfo, ErrorInfoProto.ErrorInfo__Output>("ErrorInfo"),
  RequestInfo: codec<RequestInfoProto.RequestInfo, RequestInfoProto.RequestInfo__Output>("RequestInfo"),
  RetryInfo: codec<RetryInfoProto.RetryInfo, RetryInfoProto.RetryInfo__Output>("RetryInfo")
}

/** A status for grpc-js. */
export type EncodedStatus = Pick<StatusObject, "code" | "details" | "metadata">

/** Throws if metadata cannot be encoded. */
export const encode = (status: Status): EncodedStatus => {
  // grpc-js percent-encodes the message by encodeURI, which throws on half a surrogate pair
  const details = status.message.toWellFormed()
  if (status.details.length === 0) return { code: status.code, details, metadata: status.metadata }
  const metadata = status.metadata.clone()
  metadata.set(
    trailer,
    messages.Status.encode({
      code: status.code,
      message: details,
      details: status.details.map(encodeDetail)
    })
  )
  return { code: status.code, details, metadata }
}

const encodeDetail = (detail: ErrorDetail) => {
  const any = <In>(name: string, { encode }: Codec<In, unknown>, value: In) => ({
    type_url: `type.googleapis.com/google.rpc.${name}`,
    value: encode(value)
  })
  return match(detail, {
    BadRequest: ({ fieldViolations }) =>
      any("BadRequest", messages.BadRequest, { fieldViolations: [...fieldViolations] }),
    ErrorInfo: ({ domain, metadata, reason }) => any("ErrorInfo", messages.ErrorInfo, { domain, metadata, reason }),
    RequestInfo: ({ requestId }) => any("RequestInfo", messages.RequestInfo, { requestId }),
    RetryInfo: ({ retryDelay }) => {
      const millis = Duration.toMillis(retryDelay)
      const seconds = Math.floor(millis / 1000)
      return any("RetryInfo", messages.RetryInfo, {
        retryDelay: { seconds, nanos: Math.round((millis - seconds * 1000) * 1_000_000) }
      })
    },
    Unknown: ({ typeUrl, value }) => ({ type_url: typeUrl, value })
  })
}

/**
 * Decodes the header grpc-message, which is percent-encoded UTF-8
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses). Malformed sequences are kept, and bytes that are not UTF-8
 * become U+FFFD. Leading and trailing white space is lost unless the server encodes it, since nghttp2 drops it (RFC 9110, section 5.5).
 */
export const decodeMessage = (encoded: string): string =>
  encoded.replace(/(?:%[\da-f]{2})+/gi, (sequence) => Buffer.from(sequence.replaceAll("%", ""), "hex").toString("utf8"))

/** The status of a call from grpc-js, or a Node error. */
export interface Received extends Partial<Pick<StatusObject, "details" | "metadata">> {
  readonly code?: number | string | undefined
  readonly message?: string | undefined
}

/**
 * The status that a call failed with. Details that cannot be decoded are left out. There is no code if grpc-js cannot decompress a message
 * because the encoding is unknown.
 */
export const decode = ({ code, details, message, metadata: received = new Metadata() }: Received): Status => {
  const bytes = received.get(trailer)[0]
  const metadata = bytes === undefined ? received : received.clone()
  metadata.remove(trailer)
  if (typeof code === "string") return unknown(message ?? code, { metadata })
  if (code === undefined) return internal(details ?? unreadable, { metadata })
  return fromCode(code, details ?? "", {
    metadata,
    details: Buffer.isBuffer(bytes) ? decodeDetails(bytes) : []
  })
}

const unreadable = "The response cannot be read: it is compressed by an encoding that is unknown, or that is not named"

const decodeDetails = (bytes: Buffer): ReadonlyArray<ErrorDetail> =>
  Option.liftThrowable(() =>
    messages.Status.decode(bytes).details.map(({ type_url, value }) => {
      switch (type_url.slice(type_url.lastIndexOf("/") + 1)) {
        case "google.rpc.BadRequest":
          return BadRequest(messages.BadRequest.decode(value))
        case "google.rpc.ErrorInfo":
          return ErrorInfo(messages.ErrorInfo.decode(value))
        case "google.rpc.RequestInfo": {
          const { requestId } = messages.RequestInfo.decode(value)
          return RequestInfo({ requestId })
        }
        case "google.rpc.RetryInfo": {
          const { retryDelay } = messages.RetryInfo.decode(value)
          return RetryInfo({
            retryDelay: Duration.millis(Number(retryDelay?.seconds ?? 0) * 1000 + (retryDelay?.nanos ?? 0) / 1_000_000)
          })
        }
        default:
          return Unknown({ typeUrl: type_url, value })
      }
    })
  )().pipe(Option.getOrElse(() => []))
