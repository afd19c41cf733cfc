/**
 * The statuses of calls that end without a response of their handler. Those of an overloaded server are encoded once, since refusals
 * must be cheap under load.
 */
import type { ServerHttp2Stream } from "node:http2"

import { Metadata } from "@grpc/grpc-js"
import { Duration } from "effect"

import { RetryInfo } from "../ErrorDetail.ts"
import type { Kind } from "../GrpcCall.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"

/** A status, and its encoding. */
export interface Refusal {
  readonly status: Status.Status
  readonly encoded: StatusCodec.EncodedStatus
}

export const refusal = (status: Status.Status): Refusal => ({ status, encoded: StatusCodec.encode(status) })

export const wrongFlag = refusal(
  Status.internal("Received a message whose compressed flag does not agree with its encoding")
)

export const cutShort = refusal(Status.internal("The request ended within a message"))

export const shuttingDown = refusal(Status.unavailable("The server is shutting down"))

export const evicted = Status.resourceExhausted("Evicted: the call stalled while the server was saturated")

export const internalError = Status.internal("Internal error")

export const deadlineExceeded = Status.deadlineExceeded("Deadline exceeded")

const cancelled = Status.cancelled("Cancelled")

/** The message is that of grpc-js. */
export const tooLarge = (length: number, limit: number) =>
  refusal(Status.resourceExhausted(`Received message larger than max (${length} vs ${limit})`))

const kindNames: { readonly [K in Kind]: string } = {
  unary: "unary",
  serverStream: "server streaming",
  clientStream: "client streaming",
  bidi: "bidirectional streaming"
}

export const secondRequest = (kind: Kind) =>
  refusal(Status.unimplemented(`Received a second request message for a ${kindNames[kind]} method`))

export const noRequest = (kind: Kind) =>
  refusal(Status.unimplemented(`Received no request message for a ${kindNames[kind]} method`))

/** The retry delays that an overloaded server sends, in milliseconds: different values spread the retries. */
const pushbacks = [50, 65, 80, 95, 110, 125, 140, 155]

/** Returns the status of shed calls, with each pushback in turn (gRPC's A6). */
export const makeOverloaded = (): (() => Refusal) => {
  let refusals: ReadonlyArray<Refusal> | undefined
  let next = 0
  return () => {
    refusals ??= pushbacks.map((millis) => {
      const metadata = new Metadata()
      metadata.set("grpc-retry-pushback-ms", String(millis))
      const details = [RetryInfo({ retryDelay: Duration.millis(millis) })]
      return refusal(Status.resourceExhausted("The server has too many calls to answer", { details, metadata }))
    })
    return refusals[next++ % refusals.length]!
  }
}

/** The status that was sent on a stream; undefined if there was none. */
export const sentBy = ({ sentHeaders, sentTrailers }: ServerHttp2Stream): Status.Status | undefined => {
  // undefined until they are sent, although Node's types say otherwise; a status without a message is in the headers
  const sent = { ...(sentHeaders as typeof sentHeaders | undefined), ...sentTrailers }
  const code = sent["grpc-status"]
  if (code === undefined) return undefined
  return Status.fromCode(Number(code), StatusCodec.decodeMessage(String(sent["grpc-message"] ?? "")))
}

/**
 * The status of a call whose client has reset its stream. A client also does so when the deadline expires by its own clock, which is
 * before the server's deadline by the time that the headers travelled.
 */
export const statusOfReset = (deadline: number): Status.Status =>
  deadline - performance.now() <= maxTravelTime ? deadlineExceeded : cancelled

/** The longest time that headers travel, in milliseconds. */
const maxTravelTime = 50
