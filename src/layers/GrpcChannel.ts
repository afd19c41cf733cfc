/**
 * The connections to one target, over grpc-js: as many as the target has addresses, shared by all that call it, kept for the
 * layer's life, and given up only by connections that work no more.
 */
import { isIP } from "node:net"
import { createSecureContext } from "node:tls"

import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  compressionAlgorithms,
  connectivityState,
  credentials
} from "@grpc/grpc-js"
import { Cause, Config, Context, Duration, Effect, Exit, Layer, Option, type Scope, Stream } from "effect"
import { CircuitBreaker } from "effect/persistence"

import * as Address from "./Address.ts"
import * as Certificates from "./Certificates.ts"
import * as GrpcBalancer from "./GrpcBalancer.ts"
import * as GrpcClientStreams from "./GrpcClientStreams.ts"
import { GrpcError } from "./GrpcError.ts"
import type { ClientInterceptor } from "./GrpcInterceptor.ts"
import * as GrpcLog from "./GrpcLog.ts"
import * as GrpcObservers from "./GrpcObservers.ts"
import * as GrpcRetry from "./GrpcRetry.ts"
import * as GrpcStatusOrder from "./GrpcStatusOrder.ts"
import * as Observed from "./Observed.ts"
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
  maxResponseSize: 4 * 1024 * 1024
}

/** A client of grpc-js for one call, to be given back after it. */
export interface Lease {
  readonly client: Client
  readonly release: () => void
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
    readonly lease: () => Lease
    /**
     * Makes a call of a method, with all its attempts, unless the target is taken for dead: then it is UNAVAILABLE at once. For
     * calls of one request and one answer, each of which is made once it is guarded.
     */
    readonly guard: <A, R>(method: string, call: Effect.Effect<A, GrpcError, R>) => Effect.Effect<A, GrpcError, R>
  }
>()("onlinebooks/layers/GrpcChannel") {
  /** It connects at the first call. */
  static readonly layer = (options: Options) =>
    Layer.effect(GrpcChannel, make(options)).pipe(Layer.provide(CircuitBreaker.layerStoreMemory()))

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
 * What a client with a prefix connects to a target with: {@link policyConfig}, and TLS by {@link TlsSettings.client}, whose
 * files are watched as long as the scope is open.
 */
export const settings = Effect.fnUntraced(function* (prefix: string, target: string) {
  const policy = yield* policyConfig(prefix)
  const tls = yield* TlsSettings.client(prefix)
  if (Option.isNone(tls)) return { target, policy } satisfies Options as Options
  const { files, serverName } = tls.value
  if (Option.isNone(serverName) && !isName(target)) {
    return yield* Effect.fail(
      new Setting.SettingError({
        variable: `${prefix}_TLS_SERVER_NAME`,
        value: "",
        expected: `the name in the server's certificate, since the target ${target} is an address`
      })
    )
  }
  const certificates = yield* Certificates.watchResolved(files, { role: "client" })
  return {
    target,
    policy,
    tls: { certificates, serverName: Option.getOrUndefined(serverName) }
  } satisfies Options as Options
})

const make = Effect.fnUntraced(function* (options: Options) {
  yield* GrpcLog.redirect
  GrpcStatusOrder.keep()
  GrpcClientStreams.forget()
  const { target } = options
  const policy = { ...defaultPolicy, ...options.policy }
  const lease = yield* makeLeases(options, policy)
  const breaker = yield* CircuitBreaker.make({
    tripPolicy: CircuitBreaker.consecutive(policy.circuitFailures),
    openDuration: policy.circuitOpen
  })
  let state: keyof typeof circuitStates = "Closed"
  for (const [name, label] of Object.entries(circuitStates)) {
    yield* Observed.gauge(
      "grpc_client_circuit_state",
      "Whether calls are made: 1 for the state that the circuit is in",
      () => (state === name ? 1 : 0),
      { target, state: label }
    )
  }
  // A success leaves a circuit as it is that is closed and has seen no failure, and to take it through all the same costs as much
  // as a tenth of a page: so the first failure is the first that it hears of.
  let isSound = true
  const record = (cause: Cause.Cause<GrpcError>): Effect.Effect<never, GrpcError> => {
    const failed = Effect.failCause(cause)
    if (classify(Exit.failCause(cause))._tag !== "Failure") return failed
    isSound = false
    const heard = breaker.execute<never, GrpcError, never, never>(failed, { key: target, classify })
    return Effect.catchTag(heard, "CircuitBreakerError", () => failed)
  }
  yield* breaker.transitions.pipe(
    Stream.tap(({ to }) => Effect.sync(() => (state = to))),
    Stream.runForEach(({ to }) =>
      to === "Open"
        ? Effect.logWarning(`${target} does not answer: it is not called for ${Duration.format(policy.circuitOpen)}`)
        : to === "Closed"
          ? Effect.logInfo(`${target} answers again`)
          : Effect.void
    ),
    Effect.forkScoped({ startImmediately: true })
  )
  return GrpcChannel.of({
    target,
    retry: policy.retry,
    budget: GrpcRetry.makeBudget(policy.retry),
    interceptors: [...(options.observers ?? GrpcObservers.client), ...(options.interceptors ?? [])],
    lease,
    guard: <A, R>(method: string, call: Effect.Effect<A, GrpcError, R>) => {
      if (isSound) return Effect.catchCause(call, record)
      const refused = () =>
        Effect.fail(
          new GrpcError({
            method,
            reason: Status.unavailable(`${target} has not answered, and is not called for a while`)
          })
        )
      return Effect.suspend(() => breaker.execute(call, { key: target, classify })).pipe(
        Effect.catchTag("CircuitBreakerError", refused),
        Effect.tap(() =>
          Effect.sync(() => {
            isSound = state === "Closed"
          })
        )
      )
    }
  })
})

/** The states of a circuit, as the metric has them. */
const circuitStates = { Closed: "closed", Open: "open", HalfOpen: "half_open" } as const

/** A target is dead if it does not answer. That it answers with an error, or has too much to do, is a sign of life. */
const classify = (exit: Exit.Exit<unknown, GrpcError>): CircuitBreaker.Outcome => {
  if (Exit.isSuccess(exit)) return CircuitBreaker.success
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  if (error === undefined || error.reason._tag === "ResourceExhausted") return CircuitBreaker.ignored
  return error.reason._tag === "Unavailable" || error.reason._tag === "DeadlineExceeded"
    ? CircuitBreaker.failure()
    : CircuitBreaker.success
}

/**
 * The client that calls are made with. It is replaced when it does not get connected, which grpc-js itself would wait for
 * without an end (grpc/grpc-node#2785), and when there are other certificates, by one that is connected already; a client
 * that is replaced is closed when its last call has ended.
 */
const makeLeases = Effect.fnUntraced(function* (
  options: Options,
  policy: Policy
): Effect.fn.Return<() => Lease, never, Scope.Scope> {
  interface Generation {
    readonly client: Client
    calls: number
    isRetired: boolean
  }
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const { compression = "identity", target, tls } = options
  const channelOptions = {
    ...toChannelOptions(policy),
    "grpc.default_compression_algorithm": compressionAlgorithms[compression],
    ...(tls?.serverName === undefined ? {} : { "grpc.ssl_target_name_override": tls.serverName })
  }
  const connectTimeout = Duration.toMillis(policy.connectTimeout)

  const open = (): Generation => {
    const generation = {
      client: new Client(target, toCredentials(tls), channelOptions),
      calls: 0,
      isRetired: false
    }
    watch(generation)
    return generation
  }
  const closeUnused = (generation: Generation) => {
    if (generation.isRetired && generation.calls === 0) generation.client.close()
  }
  const watch = (generation: Generation) => {
    const channel = generation.client.getChannel()
    const state = channel.getConnectivityState(false)
    const deadline = state === connectivityState.CONNECTING ? Date.now() + connectTimeout : Infinity
    channel.watchConnectivityState(state, deadline, (error) => {
      if (generation.isRetired) return
      takeOver()
      if (error === undefined) return watch(generation)
      runFork(Effect.logWarning(`${target} does not let itself be connected to: starting over`))
      if (generation === next) renew()
      else replace()
      // calls that wait for its connection would do so in vain
      generation.client.close()
    })
  }
  const replace = () => {
    // what is opened now has the latest certificates too
    abandon()
    const replaced = current
    current = open()
    replaced.isRetired = true
    closeUnused(replaced)
  }

  const isReady = ({ client }: Generation) =>
    client.getChannel().getConnectivityState(false) === connectivityState.READY
  /** The client with other certificates, until it is connected: calls go on with the one that is. */
  let next: Generation | undefined
  const takeOver = () => {
    if (next === undefined || next.isRetired || (isReady(current) && !isReady(next))) return
    const replaced = current
    current = next
    next = undefined
    replaced.isRetired = true
    closeUnused(replaced)
  }
  const abandon = () => {
    if (next === undefined) return
    next.isRetired = true
    next.client.close()
    next = undefined
  }
  const renew = () => {
    abandon()
    next = open()
    // at once where there is no connection to lose; it connects at the next call then
    takeOver()
    next?.client.getChannel().getConnectivityState(true)
  }

  let current = open()
  if (tls !== undefined) {
    yield* tls.certificates.changes.pipe(
      // the first are those that it has
      Stream.drop(1),
      Stream.runForEach(() => Effect.sync(renew)),
      // before there can be others
      Effect.forkScoped({ startImmediately: true })
    )
  }
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      abandon()
      current.isRetired = true
      current.client.close()
    })
  )
  return () => {
    const generation = current
    let isReleased = false
    generation.calls++
    return {
      client: generation.client,
      release: () => {
        if (isReleased) return
        isReleased = true
        generation.calls--
        closeUnused(generation)
      }
    }
  }
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

/**
 * Whether that is a target that grpc-js can resolve, of those that https://github.com/grpc/grpc/blob/master/doc/naming.md
 * names. grpc-js itself takes almost anything, and fails at the first call.
 */
const isTarget = (text: string): boolean => {
  const [, scheme = "dns", rest = text] = /^(dns|ipv4|ipv6|unix):(.*)$/.exec(text) ?? []
  if (scheme === "unix") return rest !== "" && rest !== "//"
  if (scheme !== "dns") {
    return rest.split(",").every((address) => isHostPort(address, (host) => isIP(host) === (scheme === "ipv4" ? 4 : 6)))
  }
  const [, server = "", name = rest] = /^\/\/([^/]*)\/(.*)$/.exec(rest) ?? []
  return (server === "" || isHostPort(server, (host) => isIP(host) !== 0)) && isHostPort(name, Address.isHost)
}

/** Whether a target names a host, whose certificate can be told by that. */
const isName = (target: string): boolean => {
  const [, scheme = "dns", rest = target] = /^(dns|ipv4|ipv6|unix):(.*)$/.exec(target) ?? []
  const name = rest.slice(rest.lastIndexOf("/") + 1).replace(/:\d+$/, "")
  return scheme === "dns" && isIP(name.replace(/^\[(.*)\]$/, "$1")) === 0
}

/** Whether that is a host, in brackets if it has colons, with a port from 1 to 65535 or without. */
const isHostPort = (text: string, isHost: (host: string) => boolean): boolean => {
  const [, bracketed, plain, port = "443"] = /^(?:\[(.+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? []
  return isHost(bracketed ?? plain ?? "") && Number(port) >= 1 && Number(port) <= 65535
}

/** `<prefix>_TARGET`, or else `<prefix>_HOST` (localhost) and `<prefix>_GRPC_PORT` (50051). */
export const targetConfig = (prefix: string): Config.Config<string> =>
  Config.all({
    target: Setting.optional(`${prefix}_TARGET`, {
      expected: 'a gRPC target such as "recommendations:50051" or "dns:///recommendations:50051"',
      parse: Option.liftPredicate(isTarget)
    }),
    host: Setting.host(`${prefix}_HOST`).pipe(Config.map(Option.getOrElse(() => "localhost"))),
    port: Setting.port(`${prefix}_GRPC_PORT`, 50051)
  }).pipe(Config.map(({ host, port, target }) => Option.getOrElse(target, () => Address.format({ host, port }))))

/** A fifth is added to it at the most, which a timer has to be able to wait. */
const withJitter: Setting.DurationRange = { maximum: "20 days" }

/** The {@link Policy} under a prefix, each number by its name, such as `<prefix>_ATTEMPT_TIMEOUT`. */
export const policyConfig = (prefix: string): Config.Config<Policy> =>
  Config.all({
    retry: Config.all({
      maxAttempts: Setting.count(`${prefix}_RETRY_MAX_ATTEMPTS`, defaultPolicy.retry.maxAttempts, 1, 100),
      attemptTimeout: Setting.duration(`${prefix}_ATTEMPT_TIMEOUT`, defaultPolicy.retry.attemptTimeout, {
        minimum: "1 millis"
      }),
      initialBackoff: Setting.duration(`${prefix}_RETRY_BACKOFF`, defaultPolicy.retry.initialBackoff, withJitter),
      maxBackoff: Setting.duration(`${prefix}_RETRY_MAX_BACKOFF`, defaultPolicy.retry.maxBackoff, withJitter),
      // with 2, and with a ratio of 0 after a while, nothing would ever be retried
      maxTokens: Setting.count(`${prefix}_RETRY_MAX_TOKENS`, defaultPolicy.retry.maxTokens, 3),
      tokenRatio: Setting.ratio(`${prefix}_RETRY_TOKEN_RATIO`, defaultPolicy.retry.tokenRatio, 0.001)
    }),
    circuitFailures: Setting.count(`${prefix}_CIRCUIT_FAILURES`, defaultPolicy.circuitFailures, 1),
    circuitOpen: Setting.duration(`${prefix}_CIRCUIT_OPEN`, defaultPolicy.circuitOpen, { minimum: "1 millis" }),
    suspension: Setting.duration(`${prefix}_SUSPENSION`, defaultPolicy.suspension),
    keepaliveTime: Setting.duration(`${prefix}_KEEPALIVE_TIME`, defaultPolicy.keepaliveTime, { minimum: "1 second" }),
    keepaliveTimeout: Setting.duration(`${prefix}_KEEPALIVE_TIMEOUT`, defaultPolicy.keepaliveTimeout, {
      minimum: "100 millis"
    }),
    connectTimeout: Setting.duration(`${prefix}_CONNECT_TIMEOUT`, defaultPolicy.connectTimeout, {
      minimum: "100 millis"
    }),
    connectBackoff: Setting.duration(`${prefix}_CONNECT_BACKOFF`, defaultPolicy.connectBackoff, {
      ...withJitter,
      minimum: "10 millis"
    }),
    connectMaxBackoff: Setting.duration(`${prefix}_CONNECT_MAX_BACKOFF`, defaultPolicy.connectMaxBackoff, {
      ...withJitter,
      minimum: "10 millis"
    }),
    resolutionInterval: Setting.duration(`${prefix}_RESOLUTION_INTERVAL`, defaultPolicy.resolutionInterval, {
      minimum: "10 millis"
    }),
    maxResponseSize: Setting.count(`${prefix}_MAX_RESPONSE_SIZE`, defaultPolicy.maxResponseSize, 1)
  })
