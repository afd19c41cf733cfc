/**
 * {@link GrpcChannel} over HTTP/2, by grpc-js.
 */
import { createSecureContext } from "node:tls"

import {
  type ChannelCredentials,
  type ChannelOptions as GrpcJsOptions,
  compressionAlgorithms,
  credentials
} from "@grpc/grpc-js"
import { type Context, Duration, Effect, Layer, type Scope, Stream } from "effect"

import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import * as Certificates from "../../tls/Certificates.ts"
import * as ActiveCalls from "../grpc-js/ActiveCalls.ts"
import * as Compat from "../grpc-js/compat.ts"
import * as ResponseCompression from "../grpc-js/ResponseCompression.ts"
import * as StatusOrder from "../grpc-js/StatusOrder.ts"
import { GrpcChannel } from "../GrpcChannel.ts"
import * as GrpcLog from "../GrpcLog.ts"
import * as CallMaker from "./CallMaker.ts"
import { type ChannelOptions, type ChannelPolicy, type ChannelTls, defaultPolicy } from "./ChannelOptions.ts"
import * as ChannelSettings from "./ChannelSettings.ts"
import * as CircuitBreaker from "./CircuitBreaker.ts"
import * as LoadBalancer from "./LoadBalancer.ts"
import * as ReplaceableClient from "./ReplaceableClient.ts"
import * as ResponseHeaders from "./ResponseHeaders.ts"
import * as Retry from "./Retry.ts"
import * as StreamCall from "./StreamCall.ts"
import * as Target from "./Target.ts"
import * as UnaryCall from "./UnaryCall.ts"

/** Connects at the first call, and keeps its connections until the layer closes. */
export const layer = (options: ChannelOptions) => Layer.effect(GrpcChannel, make(options))

/**
 * As {@link layer}, with the target from the variables under the prefix `server`, and the {@link ChannelSettings} under the prefix `client`.
 */
export const layerConfig = ({
  client,
  server,
  ...interceptors
}: { readonly server: string; readonly client: string } & Pick<ChannelOptions, "interceptors" | "observers">) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const target = yield* Target.config(server)
      return layer({ ...(yield* ChannelSettings.options(client, target)), ...interceptors })
    })
  )

const make = Effect.fnUntraced(function* (options: ChannelOptions) {
  yield* GrpcLog.redirect
  yield* Compat.apply(StatusOrder.patch)
  yield* Compat.apply(ActiveCalls.patch)
  const observeCompression = options.observeCompression === true && (yield* Compat.apply(ResponseCompression.patch))
  ResponseHeaders.install()
  const { compression = "identity", target, tls } = options
  const policy = { ...defaultPolicy, ...options.policy }
  const lease = yield* ReplaceableClient.make({
    target,
    credentials: () => toCredentials(tls),
    channelOptions: {
      ...toGrpcJsOptions(policy),
      "grpc.default_compression_algorithm": compressionAlgorithms[compression],
      "grpc.enable_http_proxy": options.useHttpProxy === true ? 1 : 0,
      ...(tls?.serverName === undefined ? {} : { "grpc.ssl_target_name_override": tls.serverName })
    },
    connectTimeout: Duration.toMillis(policy.connectTimeout),
    // the first element is the current certificates
    changes: tls === undefined ? Stream.empty : Stream.drop(tls.certificates.changes, 1),
    maxCalls: policy.maxCalls
  })
  const services = yield* Effect.context<never>()
  const context = { lease, guard: CallbackGuard.make(services) }
  return GrpcChannel.of(
    CallMaker.make({
      target,
      transport: {
        unary: UnaryCall.make(context),
        serverStream: StreamCall.serverStream(context),
        clientStream: StreamCall.clientStream(context),
        bidi: StreamCall.bidi(context)
      },
      makeServiceState: serviceStates(target, policy, yield* Effect.context<Scope.Scope>()),
      interceptors: options,
      observeCompression
    })
  )
})

/** Creates the circuit breaker and the retry budget of a gRPC service. */
const serviceStates =
  (target: string, policy: ChannelPolicy, context: Context.Context<Scope.Scope>) =>
  (service: string): CallMaker.ServiceState => {
    const { circuitFailures: failures, circuitOpen: openDuration, retry } = policy
    const budget = new Retry.RetryBudget(retry)
    return {
      circuit: Effect.runSyncWith(context)(CircuitBreaker.make({ target, service, failures, openDuration })),
      retry: { policy: retry, budget, attemptTimeout: Duration.toMillis(retry.attemptTimeout) },
      streamRetry: { policy: retry, budget, attemptTimeout: Infinity }
    }
  }

const toCredentials = (tls: ChannelTls | undefined): ChannelCredentials =>
  tls === undefined
    ? credentials.createInsecure()
    : credentials.createFromSecureContext(
        createSecureContext(Certificates.secureContextOptions(tls.certificates.current()))
      )

const toGrpcJsOptions = (policy: ChannelPolicy): GrpcJsOptions => ({
  "grpc.service_config": JSON.stringify({
    loadBalancingConfig: [LoadBalancer.config(Duration.toMillis(policy.suspension))]
  }),
  // Service configs from DNS are ignored. Without a retryPolicy, grpc-js only makes the transparent retries of A6: a call that no server
  // has begun to handle is sent on another connection.
  "grpc.service_config_disable_resolution": 1,
  // a client that replaces another one must not share its connections, which may hang
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
