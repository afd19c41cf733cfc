/**
 * {@link GrpcCall} on the server: what the handler and the interceptors of one call can read and send.
 */
import { randomUUID } from "node:crypto"

import { Metadata } from "@grpc/grpc-js"
import { Cause, type Context, Effect, Exit } from "effect"

import { RequestInfo } from "../ErrorDetail.ts"
import { type GrpcCall, type Kind, otherLabel, type Peer } from "../GrpcCall.ts"
import * as Status from "../Status.ts"

/** The names and the kind of a method. */
export type MethodInfo = Pick<GrpcCall["Service"], "kind" | "method" | "name" | "service">

/** A registered method, by its path "/package.Service/Method". */
export const methodAt = (path: string, kind: Kind): MethodInfo => {
  const [, service = "", method = ""] = path.split("/")
  return { service, method, name: path.slice(1), kind }
}

/** An unregistered method: its names are replaced, so that callers cannot create labels of metrics. */
export const unknownMethodAt = (path: string): MethodInfo => ({
  service: otherLabel,
  method: otherLabel,
  name: path.slice(1),
  kind: "unary"
})

/** There is one for each call, so rarely used values are created lazily. */
export class CallContext implements Context.Service.Shape<typeof GrpcCall> {
  readonly service: string
  readonly method: string
  readonly kind: Kind
  readonly name: string
  readonly peer: Peer
  readonly metadata: Metadata
  readonly startedAt = performance.now()
  deadline = Infinity
  isRejected = false
  /** Added by the handler; sent with the status. */
  trailers: Metadata | undefined = undefined
  /** The status of a call whose handler is interrupted; CANCELLED if undefined. */
  interruption: Status.Status | undefined = undefined
  failure: unknown = undefined
  readonly #call: { readonly sendMetadata: (metadata: Metadata) => void }
  #id: string | undefined = undefined

  /** `call` sends initial metadata to the client. */
  constructor(
    { kind, method, name, service }: MethodInfo,
    peer: Peer,
    metadata: Metadata,
    call: { readonly sendMetadata: (metadata: Metadata) => void }
  ) {
    this.service = service
    this.method = method
    this.kind = kind
    this.name = name
    this.peer = peer
    this.metadata = metadata
    this.#call = call
  }

  get id(): string {
    this.#id ??= randomUUID()
    return this.#id
  }

  get sendMetadata(): GrpcCall["Service"]["sendMetadata"] {
    return (metadata) => Effect.sync(() => this.#call.sendMetadata(metadata))
  }

  get addTrailers(): GrpcCall["Service"]["addTrailers"] {
    return (more) =>
      Effect.sync(() => {
        this.trailers ??= new Metadata()
        this.trailers.merge(more)
      })
  }

  get statusOf(): GrpcCall["Service"]["statusOf"] {
    return (exit) => this.status(exit)
  }

  /** Remembers the error of the handler, and returns it. */
  fail<E>(error: E): E {
    this.failure = error
    return error
  }

  /** See `GrpcCall.statusOf`. */
  status(exit: Exit.Exit<unknown, Status.Status>): Status.Status | undefined {
    return Exit.isSuccess(exit) ? undefined : this.statusOfCause(exit.cause)
  }

  statusOfCause(cause: Cause.Cause<Status.Status>): Status.Status {
    // a cause with both is treated as a defect
    const failure = Cause.hasDies(cause) ? undefined : cause.reasons.find(Cause.isFailReason)
    if (failure !== undefined) return failure.error
    if (Cause.hasInterruptsOnly(cause)) return this.interruption ?? cancelled
    return Status.internal("Internal error", { details: [RequestInfo({ requestId: this.id })] })
  }
}

const cancelled = Status.cancelled("Cancelled")
