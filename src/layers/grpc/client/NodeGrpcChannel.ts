/**
 * {@link GrpcChannel} over grpc-js.
 */
import { createSecureContext } from "node:tls"

import { type ChannelCredentials, type ChannelOptions, compressionAlgorithms, credentials } from "@grpc/grpc-js"
import { Config, Duration, Effect, Layer, Option, Stream } from "effect"

import * as Setting from "../../config/Setting.ts"
import * as Certificates from "../../tls/Certificates.ts"
import * as CertificateWatcher from "../../tls/CertificateWatcher.ts"
import * as TlsSettings from "../../tls/TlsSettings.ts"
import * as Compat from "../grpc-js/compat.ts"
import * as StatusOrder from "../grpc-js/StatusOrder.ts"
import { defaultPolicy, GrpcChannel, type Options, type Policy, type Tls } from "../GrpcChannel.ts"
import { GrpcError } from "../GrpcError.ts"
import * as GrpcLog from "../GrpcLog.ts"
import * as DefaultObservers from "../interceptors/DefaultObservers.ts"
import * as Status from "../Status.ts"
import * as CircuitBreaker from "./CircuitBreaker.ts"
import * as LoadBalancer from "./LoadBalancer.ts"
import * as ReplaceableClient from "./ReplaceableClient.ts"
import * as ResponseHeaders from "./ResponseHeaders.ts"
import * as Retry from "./Retry.ts"
import * as Target from "./Target.ts"

/** It connects at the first call. */
export const layer = (options: Options) => Layer.effect(GrpcChannel, make(options))

/** As {@link layer}, to the target of a server with one prefix, by the {@link settings} of a client with another. */
export const layerConfig = ({
  client,
  server,
  ...around
}: { readonly server: string; readonly client: string } & Pick<Options, "interceptors" | "observers">) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const target = yield* targetConfig(server)
      return layer({ ...(yield* settings(client, target)), ...around })
    })
  )
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
  if (name === undefined && !Target.isName(target)) {
    return yield* Effect.fail(
      new Setting.SettingError({
        variable: `${prefix}_TLS_SERVER_NAME`,
        value: "",
        expected: `the name in the server's certificate, since the target ${target} is an address`
      })
    )
  }
  const certificates = yield* CertificateWatcher.watchResolved(tls.value.files, { role: "client" })
  return { target, policy, useHttpProxy, tls: { certificates, serverName: name } } satisfies Options as Options
})

const make = Effect.fnUntraced(function* (options: Options) {
  yield* GrpcLog.redirect
  yield* Compat.apply(StatusOrder.patch)
  ResponseHeaders.install()
  const { compression = "identity", target, tls } = options
  const policy = { ...defaultPolicy, ...options.policy }
  const lease = yield* ReplaceableClient.make({
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
  const guard = yield* CircuitBreaker.make({
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
    budget: Retry.makeBudget(policy.retry),
    interceptors: [...(options.observers ?? DefaultObservers.client), ...(options.interceptors ?? [])],
    attemptInterceptors: [
      ...(options.attemptObservers ?? DefaultObservers.clientAttempt),
      ...(options.attemptInterceptors ?? [])
    ],
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
    loadBalancingConfig: [LoadBalancer.config(Duration.toMillis(policy.suspension))]
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
export const targetConfig = Target.config

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
