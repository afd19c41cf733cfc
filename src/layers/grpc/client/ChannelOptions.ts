/**
 * The options of a channel over HTTP/2, and their defaults.
 */
import type { compressionAlgorithms } from "@grpc/grpc-js"
import { Duration } from "effect"

import type * as Certificates from "../../tls/Certificates.ts"
import type { ClientAttemptInterceptor, ClientInterceptor } from "../GrpcInterceptor.ts"
import * as RetryPolicy from "../RetryPolicy.ts"

/** The interceptors of a channel. */
export interface ChannelInterceptors {
  /** Interceptors of calls, each including all its attempts; the first is the outermost. */
  readonly interceptors?: ReadonlyArray<ClientInterceptor> | undefined
  /** Interceptors of the attempts of calls. */
  readonly attemptInterceptors?: ReadonlyArray<ClientAttemptInterceptor> | undefined
  /** Outside of `interceptors`; the default is {@link DefaultObservers.client}. */
  readonly observers?: ReadonlyArray<ClientInterceptor> | undefined
  /** Outside of `attemptInterceptors`; the default is {@link DefaultObservers.clientAttempt}. */
  readonly attemptObservers?: ReadonlyArray<ClientAttemptInterceptor> | undefined
}

export interface ChannelOptions extends ChannelInterceptors {
  /** For example "localhost:50051" or "dns:///recommendations:50051": see https://github.com/grpc/grpc/blob/master/doc/naming.md. */
  readonly target: string
  readonly policy?: Partial<ChannelPolicy> | undefined
  /** Whether calls go through the proxy that grpc_proxy, https_proxy or http_proxy names; false by default. */
  readonly useHttpProxy?: boolean | undefined
  /** Plaintext by default. */
  readonly tls?: ChannelTls | undefined
  /**
   * Compresses every request message, unless the server does not accept the algorithm. None by default: compression costs CPU, and pays
   * off for large messages on a slow network.
   */
  readonly compression?: keyof typeof compressionAlgorithms | undefined
  /**
   * Makes {@link MessageCompression.isCompressed} report whether a response was compressed; false by default. It adds a small cost to each
   * response of the process, and relies on a private member of grpc-js: if that is missing, no response is reported as compressed.
   */
  readonly observeCompression?: boolean | undefined
}

export interface ChannelTls {
  /** The authorities to trust and, for mutual TLS, the certificate of this client. */
  readonly certificates: Certificates.Watched
  /** The name in the server's certificate; the default is the host of the target, which must then be a name. */
  readonly serverName?: string | undefined
}

/** How a channel treats its connections, and what it does when calls fail. */
export interface ChannelPolicy {
  readonly retry: RetryPolicy.RetryPolicy
  /** Consecutive failed calls of a service, each including all its attempts, that open its circuit breaker. */
  readonly circuitFailures: number
  /** How long the circuit breaker stays open before one call probes the service. */
  readonly circuitOpen: Duration.Duration
  /** How long a replica whose attempts time out receives no calls until a probe. */
  readonly suspension: Duration.Duration
  /** How long nothing may be received on a connection before the server is pinged. */
  readonly keepaliveTime: Duration.Duration
  /** How long the server may take to answer a ping before the connection is closed. */
  readonly keepaliveTimeout: Duration.Duration
  /** How long the channel may take to connect before it is replaced by a new one. */
  readonly connectTimeout: Duration.Duration
  /** The wait after the first failed connection attempt; it grows with each further one. */
  readonly connectBackoff: Duration.Duration
  readonly connectMaxBackoff: Duration.Duration
  /** Minimum interval between DNS look-ups, which a lost connection triggers. */
  readonly resolutionInterval: Duration.Duration
  /** Maximum size of one response message, in bytes. */
  readonly maxResponseSize: number
  /**
   * Maximum calls in flight; others fail with RESOURCE_EXHAUSTED. Together with {@link ChannelPolicy.maxResponseSize} it limits the memory
   * of all responses.
   */
  readonly maxCalls: number
}

export const defaultPolicy: ChannelPolicy = {
  retry: RetryPolicy.defaults,
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
