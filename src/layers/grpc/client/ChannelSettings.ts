/**
 * The settings of a channel over HTTP/2.
 */
import { Config, Effect, Option } from "effect"

import * as Setting from "../../config/Setting.ts"
import * as CertificateWatcher from "../../tls/CertificateWatcher.ts"
import * as TlsSettings from "../../tls/TlsSettings.ts"
import { type ChannelOptions, type ChannelPolicy, defaultPolicy } from "./ChannelOptions.ts"
import * as Target from "./Target.ts"

/**
 * The options of a channel to a target, from the variables under a prefix: {@link policy}, `<prefix>_USE_HTTP_PROXY`, and TLS by
 * {@link TlsSettings.client}, whose files are watched while the scope is open. `serverName` is the name in the server's certificate
 * unless the settings give one.
 */
export const options = Effect.fnUntraced(function* (prefix: string, target: string, serverName?: string) {
  const channelPolicy = yield* policy(prefix)
  const useHttpProxy = yield* Setting.flag(`${prefix}_USE_HTTP_PROXY`, {
    description: "Whether calls go through the proxy that `grpc_proxy`, `https_proxy` or `http_proxy` names.",
    default: false
  })
  const tls = yield* TlsSettings.client(prefix)
  if (Option.isNone(tls))
    return { target, policy: channelPolicy, useHttpProxy } satisfies ChannelOptions as ChannelOptions
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
  return {
    target,
    policy: channelPolicy,
    useHttpProxy,
    tls: { certificates, serverName: name }
  } satisfies ChannelOptions as ChannelOptions
})

/** Jitter adds up to a fifth, and the sum must fit a timer. */
const withJitter: Setting.DurationRange = { maximum: "20 days" }

/** The {@link ChannelPolicy} from the variables under a prefix, such as `<prefix>_ATTEMPT_TIMEOUT`. */
export const policy = (prefix: string): Config.Config<ChannelPolicy> =>
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
          "The retry budget of a gRPC service: a failed attempt takes a token, and nothing is retried while half of them or fewer are left.",
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
      description: "Consecutive failed calls of a gRPC service that open its circuit breaker.",
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
      description: "Interval of keepalive pings on an idle connection.",
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
