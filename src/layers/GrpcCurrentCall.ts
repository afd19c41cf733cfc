/**
 * A call of grpc-js while a server answers it: what handlers and interceptors know of it, and what will become of it.
 */
import { randomUUID } from "node:crypto"

import { Metadata } from "@grpc/grpc-js"
import { Cause, type Context, Effect, Exit } from "effect"

import { RequestInfo } from "./ErrorDetail.ts"
import type { GrpcCall, Kind, Peer } from "./GrpcCall.ts"
import * as Status from "./Status.ts"

/** What a call is answered with that is interrupted for no other reason. */
export const cancelled = Status.cancelled("Cancelled")

/** A call, as handlers and interceptors see it. */
export class CurrentCall implements Context.Service.Shape<typeof GrpcCall> {
  readonly service: string
  readonly method: string
  readonly kind: Kind
  readonly name: string
  readonly peer: Peer
  readonly deadline: number
  readonly metadata: Metadata
  readonly startedAt: number
  isRejected: boolean
  readonly sendMetadata: (metadata: Metadata) => Effect.Effect<void>
  /** What its handler has added. */
  trailers: Metadata | undefined
  /** What it is answered with if it is interrupted. */
  interruption: Status.Status = cancelled
  failure: unknown
  #id: string | undefined

  constructor(
    known: Pick<
      GrpcCall["Service"],
      | "deadline"
      | "isRejected"
      | "kind"
      | "metadata"
      | "method"
      | "name"
      | "peer"
      | "sendMetadata"
      | "service"
      | "startedAt"
    >
  ) {
    this.service = known.service
    this.method = known.method
    this.kind = known.kind
    this.name = known.name
    this.peer = known.peer
    this.deadline = known.deadline
    this.metadata = known.metadata
    this.startedAt = known.startedAt
    this.isRejected = known.isRejected
    this.sendMetadata = known.sendMetadata
  }

  /** Takes down what its handler has failed with. */
  fail = <E>(error: E): E => {
    this.failure = error
    return error
  }

  get id(): string {
    this.#id ??= randomUUID()
    return this.#id
  }

  addTrailers = (more: Metadata) =>
    Effect.sync(() => {
      this.trailers ??= new Metadata()
      this.trailers.merge(more)
    })

  statusOf = (exit: Exit.Exit<unknown, Status.Status>): Status.Status | undefined => {
    if (Exit.isSuccess(exit)) return undefined
    // a bug beside a failure is a bug
    const failure = Cause.hasDies(exit.cause) ? undefined : exit.cause.reasons.find(Cause.isFailReason)
    if (failure !== undefined) return failure.error
    if (Cause.hasInterruptsOnly(exit.cause)) return this.interruption
    return Status.internal("Internal error", { details: [RequestInfo({ requestId: this.id })] })
  }
}
