/**
 * A channel makes the calls of clients to one target. {@link GrpcClient.make} wraps it in the typed functions of a service.
 *
 * `client/NodeGrpcChannel` is the channel over HTTP/2, with load balancing, retries and a circuit breaker; `layers/testing` has one that
 * calls handlers in the same process.
 */
import type { Metadata } from "@grpc/grpc-js"
import { Context, type Effect, type Exit, type Stream } from "effect"

import type { Kind } from "./GrpcCall.ts"
import type { GrpcError } from "./GrpcError.ts"
import type { ClientCall } from "./GrpcInterceptor.ts"
import type { ResponseLimit } from "./MessageCodec.ts"
import type { Status } from "./Status.ts"

/** A method, as a client calls it. */
export interface Method {
  /** The path of its calls: "/package.Service/Method". */
  readonly path: string
  /** With its package. */
  readonly service: string
  readonly name: string
  readonly kind: Kind
  /** Whether its proto marks it NO_SIDE_EFFECTS or IDEMPOTENT, so that a call may be retried. */
  readonly isIdempotent: boolean
  /** Encodes a request; fails with INVALID_ARGUMENT if a value does not fit its field type. */
  readonly encode: (request: object) => Exit.Exit<Buffer, Status>
  /** Decodes a response; throws if the bytes are malformed. */
  readonly decode: (bytes: Buffer) => object
}

/** The metadata that a server sent with a response. */
export interface ResponseMetadata {
  /** Sent before the first message; empty if there were none. */
  readonly headers: Metadata
  /** Sent after the last message. */
  readonly trailers: Metadata
}

/** A call that is about to be made. Its metadata is not shared with other calls: interceptors and retries change it. */
export interface Call extends ClientCall {
  readonly definition: Method
  /** The context that the call is made in, instead of that of the fiber that runs its Effect. */
  readonly context: Context.Context<never>
  readonly responseLimit: ResponseLimit | undefined
  /** Called with the headers and the trailers of each attempt when they arrive. */
  readonly onResponseMetadata: ((metadata: Partial<ResponseMetadata>) => void) | undefined
}

export class GrpcChannel extends Context.Service<
  GrpcChannel,
  {
    /** As gRPC names it: see https://github.com/grpc/grpc/blob/master/doc/naming.md. */
    readonly target: string
    /** Starts the interceptors of the call at once: run the Effect immediately, and only once. */
    readonly unary: (call: Call, request: object) => Effect.Effect<object, GrpcError>
    readonly serverStream: (call: Call, request: object) => Stream.Stream<object, GrpcError>
    /** As `unary`. */
    readonly clientStream: <E, R>(
      call: Call,
      requests: Stream.Stream<object, E, R>
    ) => Effect.Effect<object, GrpcError | E, R>
    readonly bidi: <E, R>(call: Call, requests: Stream.Stream<object, E, R>) => Stream.Stream<object, GrpcError | E, R>
  }
>()("layers/grpc/GrpcChannel") {}
