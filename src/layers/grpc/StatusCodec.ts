/**
 * A {@link Status} as grpc-js sends and receives it. Details travel as a google.rpc.Status in the trailer
 * grpc-status-details-bin, the richer error model of https://grpc.io/docs/guides/error/.
 */
import { Metadata, type StatusObject } from "@grpc/grpc-js"
import { Duration, Option, Record } from "effect"

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
const typePrefix = "type.googleapis.com/"

interface Messages {
  readonly "google.rpc.Status": Message<StatusProto.Status, StatusProto.Status__Output>
  readonly "google.rpc.BadRequest": Message<BadRequestProto.BadRequest, BadRequestProto.BadRequest__Output>
  readonly "google.rpc.ErrorInfo": Message<ErrorInfoProto.ErrorInfo, ErrorInfoProto.ErrorInfo__Output>
  readonly "google.rpc.RequestInfo": Message<RequestInfoProto.RequestInfo, RequestInfoProto.RequestInfo__Output>
  readonly "google.rpc.RetryInfo": Message<RetryInfoProto.RetryInfo, RetryInfoProto.RetryInfo__Output>
}

/** How a message is encoded and decoded. */
interface Message<In, Out> {
  readonly encode: (message: In) => Buffer
  readonly decode: (bytes: Buffer) => Out
}

/** The messages of google.rpc that are used here. */
const messages = Record.fromEntries(
  ["Status", "BadRequest", "ErrorInfo", "RequestInfo", "RetryInfo"].map((name) => [
    `google.rpc.${name}`,
    EmbeddedProtos.codec(definitions, `google.rpc.${name}`)
  ])
) as unknown as Messages

const message = <Name extends keyof Messages>(name: Name): Messages[Name] => messages[name]

/** A status as grpc-js takes it. */
export type EncodedStatus = Pick<StatusObject, "code" | "details" | "metadata">

/** What a grpc-js handler gives its callback to answer with a status. */
export const encode = (status: Status): EncodedStatus => {
  // grpc-js percent-encodes the message, which throws on half a surrogate pair
  const details = status.message.toWellFormed()
  if (status.details.length === 0) return { code: status.code, details, metadata: status.metadata }
  const metadata = status.metadata.clone()
  metadata.set(
    trailer,
    message("google.rpc.Status").encode({
      code: status.code,
      message: details,
      details: status.details.map(encodeDetail)
    })
  )
  return { code: status.code, details, metadata }
}

const encodeDetail = (detail: ErrorDetail) => {
  const any = <Name extends keyof Messages>(name: Name, value: Parameters<Messages[Name]["encode"]>[0]) => ({
    type_url: typePrefix + name,
    value: message(name).encode(value)
  })
  return match(detail, {
    BadRequest: ({ fieldViolations }) => any("google.rpc.BadRequest", { fieldViolations: [...fieldViolations] }),
    ErrorInfo: ({ domain, metadata, reason }) => any("google.rpc.ErrorInfo", { domain, metadata, reason }),
    RequestInfo: ({ requestId }) => any("google.rpc.RequestInfo", { requestId }),
    RetryInfo: ({ retryDelay }) => {
      const millis = Duration.toMillis(retryDelay)
      const seconds = Math.floor(millis / 1000)
      return any("google.rpc.RetryInfo", {
        retryDelay: { seconds, nanos: Math.round((millis - seconds * 1000) * 1_000_000) }
      })
    },
    Unknown: ({ typeUrl, value }) => ({ type_url: typeUrl, value })
  })
}

/**
 * The message of a status by https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses: percent-encoded UTF-8.
 * Sequences that encode nothing stay as they are, and bytes that are not UTF-8 become U+FFFD. White space at either end never
 * arrives, since nghttp2 drops it (RFC 9110, section 5.5): servers have to encode it, as %20.
 */
export const decodeMessage = (encoded: string): string =>
  encoded.replace(/(?:%[\da-f]{2})+/gi, (sequence) => Buffer.from(sequence.replaceAll("%", ""), "hex").toString("utf8"))

/** What a call ended with, as far as grpc-js told of it, or an error of Node's. */
export interface Received extends Partial<Pick<StatusObject, "details" | "metadata">> {
  readonly code?: number | string | undefined
  readonly message?: string | undefined
}

/**
 * The status that a call failed with. Details that do not parse are left out: they never make a failure worse. grpc-js gives no code
 * where it cannot read a message that is compressed (grpc-encoding is missing, or unknown to it).
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
    message("google.rpc.Status")
      .decode(bytes)
      .details.map(({ type_url, value }) => {
        switch (type_url.slice(type_url.lastIndexOf("/") + 1)) {
          case "google.rpc.BadRequest":
            return BadRequest(message("google.rpc.BadRequest").decode(value))
          case "google.rpc.ErrorInfo":
            return ErrorInfo(message("google.rpc.ErrorInfo").decode(value))
          case "google.rpc.RequestInfo": {
            const { requestId } = message("google.rpc.RequestInfo").decode(value)
            return RequestInfo({ requestId })
          }
          case "google.rpc.RetryInfo": {
            const { retryDelay } = message("google.rpc.RetryInfo").decode(value)
            return RetryInfo({
              retryDelay: Duration.millis(
                Number(retryDelay?.seconds ?? 0) * 1000 + (retryDelay?.nanos ?? 0) / 1_000_000
              )
            })
          }
          default:
            return Unknown({ typeUrl: type_url, value })
        }
      })
  )().pipe(Option.getOrElse(() => []))
