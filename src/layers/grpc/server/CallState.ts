/**
 * A call of grpc-js while a server answers it: what handlers and interceptors know of it, and what will become of it.
 */
import { randomUUID } from "node:crypto"

import { Metadata } from "@grpc/grpc-js"
import { Cause, type Context, Effect, Exit } from "effect"

import { RequestInfo } from "../ErrorDetail.ts"
import type { GrpcCall, Kind, Peer } from "../GrpcCall.ts"
import * as Status from "../Status.ts"

/** What a call is answered with that is interrupted for no other reason. */
export const cancelled = Status.cancelled("Cancelled")

/** What is known of a method, as handlers and interceptors see it. */
export type CalledMethod = Pick<GrpcCall["Service"], "kind" | "method" | "name" | "service">

/** What is known of a call, and how metadata gets to its client. */
export interface Called extends Pick<GrpcCall["Service"], "deadline" | "metadata" | "peer" | "startedAt"> {
  readonly sendMetadata: (metadata: Metadata) => void
}

/**
 * A call, as handlers and interceptors see it. There is one for each call, so that what is rarely asked for is made when it is.
 */
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
  /** What its handler has added. */
  trailers: Metadata | undefined = undefined
  /** What it is answered with if it is interrupted. */
  interruption: Status.Status = cancelled
  failure: unknown = undefined
  readonly #called: Called
  #id: string | undefined = undefined

  constructor(method: CalledMethod, called: Called, isRejected: boolean) {
    this.service = method.service
    this.method = method.method
    this.kind = method.kind
    this.name = method.name
    this.peer = called.peer
    this.deadline = called.deadline
    this.metadata = called.metadata
    this.startedAt = called.startedAt
    this.isRejected = isRejected
    this.#called = called
  }

  get id(): string {
    this.#id ??= randomUUID()
    return this.#id
  }

  get sendMetadata(): GrpcCall["Service"]["sendMetadata"] {
    return (metadata) => Effect.sync(() => this.#called.sendMetadata(metadata))
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

  /** Takes down what its handler has failed with. */
  fail<E>(error: E): E {
    this.failure = error
    return error
  }

  /** What {@link statusOf} says. */
  status(exit: Exit.Exit<unknown, Status.Status>): Status.Status | undefined {
    if (Exit.isSuccess(exit)) return undefined
    // a bug beside a failure is a bug
    const failure = Cause.hasDies(exit.cause) ? undefined : exit.cause.reasons.find(Cause.isFailReason)
    if (failure !== undefined) return failure.error
    if (Cause.hasInterruptsOnly(exit.cause)) return this.interruption
    return Status.internal("Internal error", { details: [RequestInfo({ requestId: this.id })] })
  }
}
