/**
 * Makes single attempts of calls: over HTTP/2 by grpc-js ({@link UnaryCall}, {@link StreamCall}), or in memory (`layers/testing`).
 */
import type { Effect, Scope, Stream } from "effect"

import type { Guard } from "../../telemetry/CallbackGuard.ts"
import type { Call } from "../GrpcChannel.ts"
import type { ClientAttempt } from "../GrpcInterceptor.ts"
import type { Status } from "../Status.ts"
import type { Leased } from "./ReplaceableClient.ts"

/** An attempt of a call. */
export interface Attempt extends ClientAttempt {
  readonly call: Call
  /** Timeout of the attempt, in milliseconds. */
  readonly timeout: number
  /** Decodes a response; throws if decoding fails. */
  readonly decode: (bytes: Buffer) => object
  /** The call of grpc-js, set by the transport when it creates it. */
  started: { readonly getPeer: () => string } | undefined
}

/** One function for each kind of method. Each makes one attempt, and cancels it when it is interrupted or its scope closes. */
export interface Transport {
  readonly unary: (attempt: Attempt, request: Buffer) => Effect.Effect<object, Status>
  readonly serverStream: (
    attempt: Attempt,
    request: Buffer
  ) => Effect.Effect<Stream.Stream<object, Status>, Status, Scope.Scope>
  readonly clientStream: <E, R>(
    attempt: Attempt,
    requests: Stream.Stream<object, E, R>
  ) => Effect.Effect<object, Status | E, R>
  readonly bidi: <E, R>(
    attempt: Attempt,
    requests: Stream.Stream<object, E, R>
  ) => Effect.Effect<Stream.Stream<object, Status | E, R>, Status, Scope.Scope>
}

/** Dependencies of an attempt over HTTP/2. */
export interface TransportContext {
  /** Leases the client for an attempt, or returns the reason why there is none. */
  readonly lease: () => Leased
  /** Wraps callbacks of grpc-js. */
  readonly guard: Guard
}
