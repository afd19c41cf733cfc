/**
 * The connections to one target, over grpc-js: as many as the target has addresses, shared by all that call it, kept for the
 * layer's life, and given up only by connections that work no more.
 */
import type { compressionAlgorithms } from "@grpc/grpc-js"
import { Context, Duration } from "effect"

import type * as Certificates from "../tls/Certificates.ts"
import type * as CircuitBreaker from "./client/CircuitBreaker.ts"
import type * as ReplaceableClient from "./client/ReplaceableClient.ts"
import * as Retry from "./client/Retry.ts"
import type { ClientAttemptInterceptor, ClientInterceptor } from "./GrpcInterceptor.ts"

export interface Options {
  /**
   * As gRPC names it (https://github.com/grpc/grpc/blob/master/doc/naming.md), such as "localhost:50051" or
   * "dns:///recommendations:50051".
   */
  readonly target: string
  readonly policy?: Partial<Policy> | undefined
  /** Whether calls go through the proxy that http_proxy, https_proxy or grpc_proxy names: false unless it is said. */
  readonly useHttpProxy?: boolean | undefined
  /** What TLS is spoken with: undefined is plaintext. */
  readonly tls?: Tls | undefined
  /**
   * Compresses every request message, unless the server says that it does not know the algorithm. The default is not to: it takes
   * time, and is worth it where messages are large and the network is slow.
   */
  readonly compression?: keyof typeof compressionAlgorithms | undefined
  /** Interceptors of calls, each with all its attempts; the first is the outermost. */
  readonly interceptors?: ReadonlyArray<ClientInterceptor> | undefined
  /** Interceptors of the attempts of calls. */
  readonly attemptInterceptors?: ReadonlyArray<ClientAttemptInterceptor> | undefined
  /** Outside of `interceptors`; the default is {@link DefaultObservers.client}. */
  readonly observers?: ReadonlyArray<ClientInterceptor> | undefined
  /** Outside of `attemptInterceptors`; the default is {@link DefaultObservers.clientAttempt}. */
  readonly attemptObservers?: ReadonlyArray<ClientAttemptInterceptor> | undefined
}

export interface Tls {
  /** Whom to trust, and with an identity what to show: mutual TLS. */
  readonly certificates: Certificates.Watched
  /** The name that the server's certificate has to have: undefined is the host of the target, which must be a name then. */
  readonly serverName?: string | undefined
}

/** How a channel treats its connections, and what it does when calls fail. */
export interface Policy {
  readonly retry: Retry.RetryPolicy
  /** Calls that fail in a row, with all their attempts, before the target is taken for dead and calls fail at once. */
  readonly circuitFailures: number
  /** How long that lasts before one call is let through to see. */
  readonly circuitOpen: Duration.Duration
  /** How long a replica that hangs is passed over before one call is let through to see. */
  readonly suspension: Duration.Duration
  /** After how long without any sign of life a server is asked for one. */
  readonly keepaliveTime: Duration.Duration
  /** How long it has to give it before the connection is closed. */
  readonly keepaliveTimeout: Duration.Duration
  /** How long the channel may take to connect before it is replaced by a new one. */
  readonly connectTimeout: Duration.Duration
  /** The wait after a first connection that failed; it grows with each one after. */
  readonly connectBackoff: Duration.Duration
  readonly connectMaxBackoff: Duration.Duration
  /** How often names are looked up at the most, when a connection is lost. */
  readonly resolutionInterval: Duration.Duration
  /** One message of a response, in bytes. */
  readonly maxResponseSize: number
  /** Calls at once; with the size of a response it bounds what servers can make a client hold. Others are RESOURCE_EXHAUSTED. */
  readonly maxCalls: number
}

/** What is taken for granted where nothing else is said. */
export const defaultPolicy: Policy = {
  retry: Retry.defaultPolicy,
  circuitFailures: 5,
  circuitOpen: Duration.millis(500),
  suspension: Duration.seconds(1),
  keepaliveTime: Duration.seconds(10),
  keepaliveTimeout: Duration.seconds(5),
  connectTimeout: Duration.seconds(20),
  connectBackoff: Duration.millis(100),
  connectMaxBackoff: Duration.seconds(1),
  resolutionInterval: Duration.seconds(1),
  maxResponseSize: 256 * 1024,
  maxCalls: 256
}

export class GrpcChannel extends Context.Service<
  GrpcChannel,
  {
    readonly target: string
    readonly retry: Retry.RetryPolicy
    /** For all calls of the target together. */
    readonly budget: Retry.RetryBudget
    /** Interceptors of calls; the first is the outermost. */
    readonly interceptors: ReadonlyArray<ClientInterceptor>
    /** Interceptors of attempts. */
    readonly attemptInterceptors: ReadonlyArray<ClientAttemptInterceptor>
    /** What a call is made with now; the next one may be made with another. */
    readonly lease: () => ReplaceableClient.Leased
    /**
     * Makes a call of a method, with all its attempts, unless the target is taken for dead: then it is UNAVAILABLE at once. For
     * calls of one request and one answer, each of which is made once it is guarded.
     */
    readonly guard: CircuitBreaker.CircuitBreaker
  }
>()("layers/grpc/GrpcChannel") {}
