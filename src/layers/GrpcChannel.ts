/**
 * The connections to one target, over grpc-js: as many as the target has addresses, shared by all that call it, kept for the
 * layer's life, and given up only by connections that work no more.
 */
import { createSecureContext } from "node:tls"

import { type ChannelCredentials, type ChannelOptions, compressionAlgorithms, credentials } from "@grpc/grpc-js"
import { Config, Context, Duration, Effect, Layer, Option, Stream } from "effect"

import * as Certificates from "./Certificates.ts"
import * as GrpcBalancer from "./GrpcBalancer.ts"
import * as GrpcCircuit from "./GrpcCircuit.ts"
import * as GrpcClientStreams from "./GrpcClientStreams.ts"
import { GrpcError } from "./GrpcError.ts"
import type { ClientInterceptor } from "./GrpcInterceptor.ts"
import * as GrpcLog from "./GrpcLog.ts"
import * as GrpcObservers from "./GrpcObservers.ts"
import * as GrpcReplaceableClient from "./GrpcReplaceableClient.ts"
import * as GrpcResponseHeaders from "./GrpcResponseHeaders.ts"
import * as GrpcRetry from "./GrpcRetry.ts"
import * as GrpcStatusOrder from "./GrpcStatusOrder.ts"
import * as GrpcTarget from "./GrpcTarget.ts"
import * as Setting from "./Setting.ts"
import * as Status from "./Status.ts"
import * as TlsSettings from "./TlsSettings.ts"

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
  /** What is done around every call; the first is the outermost. */
  readonly interceptors?: ReadonlyArray<ClientInterceptor> | undefined
  /** What every call is seen by, outside of those: {@link GrpcObservers.client} unless it is given. */
  readonly observers?: ReadonlyArray<ClientInterceptor> | undefined
}

export interface Tls {
  /** Whom to trust, and with an identity what to show: mutual TLS. */
  readonly certificates: Certificates.Watched
  /** The name that the server's certificate has to have: undefined is the host of the target, which must be a name then. */
  readonly serverName?: string | undefined
}

/** How a channel treats its connections, and what it does when calls fail. */
export interface Policy {
  readonly retry: GrpcRetry.RetryPolicy
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
  retry: GrpcRetry.defaultPolicy,
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
    readonly retry: GrpcRetry.RetryPolicy
    /** For all calls of the target together. */
    readonly budget: GrpcRetry.RetryBudget
    /** What is done around every call; the first is the outermost. */
    readonly interceptors: ReadonlyArray<ClientInterceptor>
    /** What a call is made with now; the next one may be made with another. */
    readonly lease: () => GrpcReplaceableClient.Leased
    /**
     * Makes a call of a method, with all its attempts, unless the target is taken for dead: then it is UNAVAILABLE at once. For
     * calls of one request and one answer, each of which is made once it is guarded.
     */
    readonly guard: GrpcCircuit.GrpcCircuit
  }
>()("onlinebooks/layers/GrpcChannel") {
  /** It connects at the first call. */
  static readonly layer = (options: Options) => Layer.effect(GrpcChannel, make(options))

  /** As {@link GrpcChannel.layer}, to the target of a server with one prefix, by the {@link settings} of a client with another. */
  static readonly layerConfig = ({
    client,
    server,
    ...around
  }: { readonly server: string; readonly client: string } & Pick<Options, "interceptors" | "observers">) =>
    Layer.unwrap(
      Effect.gen(function* () {
        const target = yield* targetConfig(server)
        return GrpcChannel.layer({ ...(yield* settings(client, target)), ...around })
      })
    )
}

/**
 * What a client with a prefix connects to a target with: {@link policyConfig}, `<prefix>_USE_HTTP_PROXY`, and TLS by
 * {@link TlsSettings.client}, whose files are watched as long as the scope is open. `serverName` is the name in the server's
 * certificate where the settings give none.
 */
export const settings = Effect.fnUntraced(function* (prefix: string, target: string, serverName?: string) {
  const policy = yield* policyConfig(prefix)
  const useHttpProxy = yield* Setting.flag(`${prefix}_USE_HTTP_PROXY`, {
    description: "Whether calls go through the proxy that `grpc_proxy`, `https_proxy` or `http_proxy` names.",
    default: false
  })
  const tls = yield* TlsSettings.client(prefix)
  if (Option.isNone(tls)) return { target, policy, useHttpProxy } satisfies Options as Options
  const name = Option.getOrElse(tls.value.serverName, () => serverName)
  if (name === undefined && !GrpcTarget.isName(target)) {
    return yield* Effect.fail(
      new Setting.SettingError({
        variable: `${prefix}_TLS_SERVER_NAME`,
        value: "",
        expected: `the name in the server's certificate, since the target ${target} is an address`
      })
    )
  }
  const certificates = yield* Certificates.watchResolved(tls.value.files, { role: "client" })
  return { target, policy, useHttpProxy, tls: { certificates, serverName: name } } satisfies Options as Options
})

const make = Effect.fnUntraced(function* (options: Options) {
  yield* GrpcLog.redirect
  GrpcStatusOrder.keep()
  GrpcClientStreams.forget()
  GrpcResponseHeaders.bound()
  const { compression = "identity", target, tls } = options
  const policy = { ...defaultPolicy, ...options.policy }
  const lease = yield* GrpcReplaceableClient.make({
    target,
    credentials: () => toCredentials(tls),
    channelOptions: {
      ...toChannelOptions(policy),
      "grpc.default_compression_algorithm": compressionAlgorithms[compression],
      "grpc.enable_http_proxy": options.useHttpProxy === true ? 1 : 0,
      ...(tls?.serverName === undefined ? {} : { "grpc.ssl_target_name_override": tls.serverName })
    },
    connectTimeout: Duration.toMillis(policy.connectTimeout),
    // the first are those that it has
    changes: tls === undefined ? Stream.empty : Stream.drop(tls.certificates.changes, 1),
    maxCalls: policy.maxCalls
  })
  const guard = yield* GrpcCircuit.make({
    target,
    failures: policy.circuitFailures,
    openDuration: policy.circuitOpen,
    refuse: (method) =>
      Effect.fail(
        new GrpcError({
          method,
          reason: Status.unavailable(`Circuit breaker is open for ${target}`)
        })
      )
  })
  return GrpcChannel.of({
    target,
    retry: policy.retry,
    budget: GrpcRetry.makeBudget(policy.retry),
    interceptors: [...(options.observers ?? GrpcObservers.client), ...(options.interceptors ?? [])],
    lease,
    guard
  })
})

const toCredentials = (tls: Tls | undefined): ChannelCredentials =>
  tls === undefined
    ? credentials.createInsecure()
    : credentials.createFromSecureContext(
        createSecureContext(Certificates.secureContextOptions(tls.certificates.current()))
      )

const toChannelOptions = (policy: Policy): ChannelOptions => ({
  "grpc.service_config": JSON.stringify({
    loadBalancingConfig: [GrpcBalancer.config(Duration.toMillis(policy.suspension))]
  }),
  // What a name server says is not to change how calls are made. Without a retryPolicy in either, what is left of grpc-js' own
  // retries is what A6 calls transparent: a call that no server has begun to handle is put on another connection.
  "grpc.service_config_disable_resolution": 1,
  // a channel that replaces another one gets connections of its own, and not those that hang
  "grpc.use_local_subchannel_pool": 1,
  "grpc.enable_channelz": 0,
  "grpc.keepalive_time_ms": Duration.toMillis(policy.keepaliveTime),
  "grpc.keepalive_timeout_ms": Duration.toMillis(policy.keepaliveTimeout),
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.initial_reconnect_backoff_ms": Duration.toMillis(policy.connectBackoff),
  "grpc.max_reconnect_backoff_ms": Duration.toMillis(policy.connectMaxBackoff),
  "grpc.dns_min_time_between_resolutions_ms": Duration.toMillis(policy.resolutionInterval),
  "grpc.max_receive_message_length": policy.maxResponseSize
})

/** `<prefix>_TARGET`, or else `<prefix>_HOST` (localhost) and `<prefix>_GRPC_PORT` (50051). */
export const targetConfig = GrpcTarget.config

/** A fifth is added to it at the most, which a timer has to be able to wait. */
const withJitter: Setting.DurationRange = { maximum: "20 days" }

/** The {@link Policy} from the variables under a prefix, such as `<prefix>_ATTEMPT_TIMEOUT`. */
export const policyConfig = (prefix: string): Config.Config<Policy> =>
  Config.all({
    retry: Config.all({
      maxAttempts: Setting.count(`${prefix}_RETRY_MAX_ATTEMPTS`, {
        description: "Attempts of one call, the first included.",
        default: defaultPolicy.retry.maxAttempts,
        minimum: 1,
        maximum: 100
      }),
      attemptTimeout: Setting.duration(`${prefix}_ATTEMPT_TIMEOUT`, {
        description:
          "How long the first attempt of a call may take if another one may follow; each further attempt gets twice the time of the " +
          "one before.",
        default: defaultPolicy.retry.attemptTimeout,
        minimum: "1 millis"
      }),
      initialBackoff: Setting.duration(`${prefix}_RETRY_BACKOFF`, {
        description: "The wait before the second attempt; it doubles with each further attempt.",
        default: defaultPolicy.retry.initialBackoff,
        ...withJitter
      }),
      maxBackoff: Setting.duration(`${prefix}_RETRY_MAX_BACKOFF`, {
        description: "The longest wait between two attempts.",
        default: defaultPolicy.retry.maxBackoff,
        ...withJitter
      }),
      maxTokens: Setting.count(`${prefix}_RETRY_MAX_TOKENS`, {
        description:
          "The retry budget: a failed attempt takes a token, and nothing is retried while half of them or fewer are left.",
        default: defaultPolicy.retry.maxTokens,
        // with 2, and with a ratio of 0 after a while, nothing would ever be retried
        minimum: 3
      }),
      tokenRatio: Setting.ratio(`${prefix}_RETRY_TOKEN_RATIO`, {
        description: "The tokens that a successful call gives back.",
        default: defaultPolicy.retry.tokenRatio,
        minimum: 0.001
      })
    }),
    circuitFailures: Setting.count(`${prefix}_CIRCUIT_FAILURES`, {
      description: "Consecutive failed calls that open the circuit breaker.",
      default: defaultPolicy.circuitFailures,
      minimum: 1
    }),
    circuitOpen: Setting.duration(`${prefix}_CIRCUIT_OPEN`, {
      description: "How long calls fail at once while the circuit breaker is open.",
      default: defaultPolicy.circuitOpen,
      minimum: "1 millis"
    }),
    suspension: Setting.duration(`${prefix}_SUSPENSION`, {
      description: "How long a replica whose attempts time out gets no calls.",
      default: defaultPolicy.suspension
    }),
    keepaliveTime: Setting.duration(`${prefix}_KEEPALIVE_TIME`, {
      description: "How often a silent server gets a ping.",
      default: defaultPolicy.keepaliveTime,
      minimum: "1 second"
    }),
    keepaliveTimeout: Setting.duration(`${prefix}_KEEPALIVE_TIMEOUT`, {
      description: "How long a server may take to answer a ping before the connection is closed.",
      default: defaultPolicy.keepaliveTimeout,
      minimum: "100 millis"
    }),
    connectTimeout: Setting.duration(`${prefix}_CONNECT_TIMEOUT`, {
      description: "How long a channel may take to connect before it is replaced.",
      default: defaultPolicy.connectTimeout,
      minimum: "100 millis"
    }),
    connectBackoff: Setting.duration(`${prefix}_CONNECT_BACKOFF`, {
      description: "The wait after the first failed connection; it grows with each further one.",
      default: defaultPolicy.connectBackoff,
      ...withJitter,
      minimum: "10 millis"
    }),
    connectMaxBackoff: Setting.duration(`${prefix}_CONNECT_MAX_BACKOFF`, {
      description: "The longest wait between two connections.",
      default: defaultPolicy.connectMaxBackoff,
      ...withJitter,
      minimum: "10 millis"
    }),
    resolutionInterval: Setting.duration(`${prefix}_RESOLUTION_INTERVAL`, {
      description: "The shortest time between two look-ups of a name, which the loss of a connection starts.",
      default: defaultPolicy.resolutionInterval,
      minimum: "10 millis"
    }),
    maxResponseSize: Setting.count(`${prefix}_MAX_RESPONSE_SIZE`, {
      description: "The largest response message, compressed or not.",
      unit: "bytes",
      default: defaultPolicy.maxResponseSize,
      minimum: 1
    }),
    maxCalls: Setting.count(`${prefix}_MAX_CALLS`, {
      description:
        "Calls at the same time; others fail at once. Together with the largest response it limits the memory of all responses.",
      default: defaultPolicy.maxCalls,
      minimum: 1
    })
  })
