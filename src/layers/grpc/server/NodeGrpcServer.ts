/**
 * {@link GrpcServer} over grpc-js: opens the port once every service is registered, and drains when its layer closes.
 */
import { Server } from "@grpc/grpc-js"
import { Config, Context, Deferred, Duration, Effect, Layer, Metric, Option, Stream, SubscriptionRef } from "effect"

import * as Address from "../../config/Address.ts"
import * as Setting from "../../config/Setting.ts"
import { Drain } from "../../process/Drain.ts"
import type { ListenError } from "../../process/ListenError.ts"
import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import * as FileDescriptors from "../../telemetry/FileDescriptors.ts"
import * as LogRateLimiter from "../../telemetry/LogRateLimiter.ts"
import * as ObservableMetric from "../../telemetry/ObservableMetric.ts"
import { RequestAnnotations } from "../../telemetry/RequestAnnotations.ts"
import * as CertificateWatcher from "../../tls/CertificateWatcher.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import * as TlsSettings from "../../tls/TlsSettings.ts"
import * as ContentType from "../ContentType.ts"
import { GrpcCall } from "../GrpcCall.ts"
import type { ProvidedBy, ServerInterceptor } from "../GrpcInterceptor.ts"
import * as GrpcLog from "../GrpcLog.ts"
import { defaultLimits, GrpcServer, type Limits, type Options, type Registration } from "../GrpcServer.ts"
import * as DefaultObservers from "../interceptors/DefaultObservers.ts"
import * as Metrics from "../interceptors/Metrics.ts"
import * as AdmissionControl from "./AdmissionControl.ts"
import * as CallBudget from "./CallBudget.ts"
import * as ConnectionRefusal from "./ConnectionRefusal.ts"
import * as ServerCalls from "./ServerCalls.ts"
import { type Secured, ServerConnections } from "./ServerConnections.ts"
import * as TimeoutHeader from "./TimeoutHeader.ts"

/** A server without services that does not listen yet. */
export const layer = (options: Options) =>
  Layer.effect(
    GrpcServer,
    Effect.gen(function* () {
      yield* GrpcLog.redirect
      const limits = yield* withinDescriptors({ ...defaultLimits, ...options.limits })
      const admission = AdmissionControl.make(limits)
      const exemptAdmission = AdmissionControl.make({
        maxConcurrency: limits.maxExemptCalls,
        maxQueue: 0,
        maxQueueWait: Duration.zero,
        whenFull: "evict"
      })
      const budget = CallBudget.make(limits.maxBytesInFlight)
      const context = annotatePeer(yield* Effect.context<never>())
      const interceptors = [...(options.observers ?? DefaultObservers.server), ...(options.interceptors ?? [])]
      const calls = ServerCalls.make({
        admission,
        exemptAdmission,
        budget,
        interceptors,
        connectionOf: (stream) => connections.of(stream),
        maxRequestSize: limits.maxRequestSize,
        maxResponseSize: limits.maxResponseSize,
        context
      })
      yield* observeLoad(admission, budget, limits)
      const server = new Server({
        interceptors: [calls.interceptor],
        // its counts of every call are for an admin service that is not offered
        "grpc.enable_channelz": 0,
        "grpc.max_receive_message_length": limits.maxRequestSize,
        "grpc.max_send_message_length": limits.maxResponseSize,
        "grpc.keepalive_time_ms": Duration.toMillis(limits.keepaliveTime),
        "grpc.keepalive_timeout_ms": Duration.toMillis(limits.keepaliveTimeout)
      })
      const runFork = Effect.runForkWith(context)
      const connections: ServerConnections = new ServerConnections(server, {
        ...limits,
        tls: options.tls,
        guard: CallbackGuard.make(context),
        onRefused: (refusal, address) => void runFork(reportRefusal(refusal, address)),
        onSecured: (secured) => void runFork(reportSecured(secured)),
        onAcceptError: (error) => void runFork(reportAcceptError(error)),
        onEntering: (stream, headers) => {
          ContentType.removeOther(headers)
          TimeoutHeader.cap(headers)
          calls.onEntering(stream, headers)
        },
        onStream: calls.onStream,
        onRefusedStream: calls.onRefusedStream
      })
      yield* observeConnections(connections, limits)
      if (options.tls !== undefined) {
        yield* options.tls.certificates.changes.pipe(
          Stream.runForEach((certificates) => Effect.sync(() => connections.setCertificates(certificates))),
          Effect.forkScoped
        )
      }
      const address = yield* Deferred.make<Address.Address>()
      const leaving = yield* Deferred.make<void>()
      const names = yield* SubscriptionRef.make<ReadonlyArray<string>>([])

      const register = Effect.fnUntraced(function* <E, R>(registration: Registration<E, R>) {
        const { definition, handlers, isExempt = false, name, toStatus } = registration
        const own = registration.interceptors ?? []
        const context = annotatePeer(yield* Effect.context<Exclude<R, GrpcCall>>())
        for (const [methodName, method] of Object.entries(definition)) {
          const handler = handlers[methodName]
          if (handler === undefined) return yield* Effect.die(new Error(`${method.path} has no handler`))
          // grpc-js answers UNIMPLEMENTED to what it does not know
          if (typeof handler !== "function") continue
          if ([...interceptors, ...own].includes(Metrics.server)) {
            yield* Metrics.startAtZero({ service: name, method: methodName, kind: method.kind })
          }
          const { handle, kind } = calls.handle({
            definition: method,
            handler,
            context,
            toStatus,
            isExempt,
            interceptors: own
          })
          // the handler has encoded it
          const serialize = (response: Buffer) => response
          if (!server.register(method.path, handle, serialize, method.request.decode, kind)) {
            return yield* Effect.die(new Error(`${method.path} is served already`))
          }
        }
        yield* SubscriptionRef.update(names, (names) => [...names, name])
      })

      const drain = Effect.gen(function* () {
        const { ended: before } = calls.counts()
        const timeout = yield* (yield* Drain).timeLeft
        const closed = yield* Deferred.make<void>()
        const awaitClosed = (atMost: Duration.Duration) =>
          Deferred.await(closed).pipe(Effect.interruptible, Effect.timeoutOption(atMost))
        yield* Deferred.succeed(leaving, undefined)
        connections.drain(() => Deferred.doneUnsafe(closed, Effect.void))
        yield* awaitClosed(timeout)
        const { ended, inFlight: cut } = calls.counts()
        if (!(yield* Deferred.isDone(closed))) {
          calls.cut()
          yield* awaitClosed(lastWords)
        }
        connections.destroy()
        yield* Effect.logInfo(`gRPC is closed: ${ended - before} calls in flight finished, ${cut} were cut`)
      })

      const listen = Effect.gen(function* () {
        const { awaitDraining } = yield* Drain
        yield* Effect.forkScoped(Effect.andThen(awaitDraining, Deferred.succeed(leaving, undefined)))
        const bound = yield* Effect.acquireRelease(connections.listen(options), () => drain)
        if (options.tls === undefined && !Address.isLoopback(bound.host)) {
          yield* Effect.logWarning(
            `gRPC is served without TLS on ${Address.format(bound)}, which other machines can reach: ` +
              "whoever is between reads and changes it, and everybody may call"
          )
        }
        yield* Deferred.succeed(address, bound)
        return bound
      })

      return GrpcServer.of({
        register,
        services: SubscriptionRef.get(names),
        serviceChanges: SubscriptionRef.changes(names),
        listen,
        address: Deferred.await(address),
        awaitLeaving: Deferred.await(leaving),
        load: Effect.sync(admission.counts)
      })
    })
  )

/** Adds the peer to log lines within a call. It is read from the call when a line is written. */
const annotatePeer = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.add(context, RequestAnnotations, (within) => {
    const call = Context.getOrUndefined(within, GrpcCall)
    return call && PeerIdentity.annotations(call.peer)
  })

/** Room for a few calls, in bytes. */
const minBytesInFlight = 1024 * 1024

/** How long the answers to calls that were cut have to reach their clients. */
const lastWords = Duration.seconds(1)

/** Connections that were not served or were closed at a limit, by the reason. */
export const connectionsRefused = Metric.counter("grpc_server_connections_refused_total", {
  description: "Connections that were not served or were closed at a limit, by the reason.",
  incremental: true
})

const refusals = LogRateLimiter.make("refused connections")

const reportRefusal = ({ detail, reason }: ConnectionRefusal.Refusal, address: string) =>
  Effect.andThen(
    Metric.update(Metric.withAttributes(connectionsRefused, { reason }), 1),
    refusals.log(
      Effect.annotateLogs(Effect.logWarning(`A connection from ${address} is refused: ${detail}`), { reason, address })
    )
  )

/** Connections that could not be accepted, by the system's error, such as EMFILE. */
const acceptErrors = Metric.counter("grpc_server_accept_errors_total", {
  description: "Connections that could not be accepted, by the error of the system",
  incremental: true
})

/** The errors of accept() when the process or the machine runs out of descriptors or memory. */
const resourceErrors = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]

const acceptErrorLines = LogRateLimiter.make("errors of the listening socket", 1)

const reportAcceptError = (error: NodeJS.ErrnoException) =>
  Effect.andThen(
    Metric.update(Metric.withAttributes(acceptErrors, { error: error.code ?? "unknown" }), 1),
    acceptErrorLines.log(Effect.logError(`gRPC cannot accept connections: ${error.message}`))
  )

/** Fewer connections, if the process may not have descriptors for all of them: else nothing would be left for the admin port. */
const withinDescriptors = Effect.fnUntraced(function* (limits: Limits) {
  const descriptors = Option.getOrElse(yield* FileDescriptors.limit, () => Infinity)
  const maxConnections = Math.max(1, Math.min(limits.maxConnections, descriptors - FileDescriptors.reserved))
  if (maxConnections === limits.maxConnections) return limits
  yield* Effect.logWarning(
    `gRPC takes ${maxConnections} connections at the most, and not ${limits.maxConnections}: ` +
      `the process may have ${descriptors} file descriptors (ulimit -n)`
  )
  return { ...limits, maxConnections }
})

const observeConnections = (connections: ServerConnections, limits: Limits) =>
  Effect.all(
    [
      ObservableMetric.gauge("grpc_server_connections", "Connections that are open", () => connections.counts().open),
      ObservableMetric.gauge(
        "grpc_server_connections_limit",
        "How many connections are open at the same time at the most",
        () => limits.maxConnections
      ),
      ObservableMetric.gauge(
        "grpc_server_tls_handshakes",
        "Connections that have not completed their TLS handshake",
        () => connections.counts().handshakes
      ),
      // counters are there from the start, so that their first increase is seen
      ...ConnectionRefusal.reasons.map((reason) =>
        Metric.update(Metric.withAttributes(connectionsRefused, { reason }), 0)
      ),
      ...resourceErrors.map((error) => Metric.update(Metric.withAttributes(acceptErrors, { error }), 0))
    ],
    { discard: true }
  )

/** What the server has to do, as metrics. */
const observeLoad = (admission: AdmissionControl.AdmissionControl, budget: CallBudget.CallBudget, limits: Limits) =>
  Effect.all(
    [
      ObservableMetric.gauge(
        "grpc_server_calls_in_flight",
        "Calls that are being answered, of those that the limit counts",
        () => admission.counts().answering
      ),
      ObservableMetric.gauge(
        "grpc_server_calls_queued",
        "Calls that wait for their turn",
        () => admission.counts().waiting
      ),
      ObservableMetric.gauge(
        "grpc_server_calls_limit",
        "How many calls are answered at the same time at the most",
        () => limits.maxConcurrency
      ),
      ObservableMetric.gauge(
        "grpc_server_bytes_in_flight",
        "Bytes that calls hold: requests and answers that are underway, and an allowance for each call",
        () => budget.counts().bytes
      ),
      ObservableMetric.gauge(
        "grpc_server_bytes_in_flight_limit",
        "How many bytes calls may hold at the most",
        () => limits.maxBytesInFlight
      ),
      ObservableMetric.counter(
        "grpc_server_calls_evicted_total",
        "Calls that waited for their client while others wanted the memory they held",
        () => budget.counts().evicted
      ),
      // it is there from the start, so that its first increase is seen
      Metric.update(ServerCalls.shed, 0)
    ],
    { discard: true }
  )

const reportSecured = ({ cipher, peer, version }: Secured) =>
  Effect.annotateLogs(
    Effect.logDebug(`A connection from ${peer.address} is secured with ${version}, ${cipher}`),
    PeerIdentity.annotations(peer)
  )

/** Opens the port once the services are there; the layer closes first, before what the services need. */
export const listen =
  <const Interceptors extends ReadonlyArray<ServerInterceptor>>(options: Options<Interceptors>) =>
  <E, R>(
    services: Layer.Layer<never, E, R>
  ): Layer.Layer<GrpcServer, E | ListenError, Exclude<R, GrpcServer | ProvidedBy<Interceptors>> | Drain> =>
    Layer.effectDiscard(
      Effect.gen(function* () {
        const server = yield* GrpcServer
        const address = yield* server.listen
        yield* Effect.logInfo(`gRPC is served on ${Address.format(address)}`)
      })
    ).pipe(Layer.provide(services), Layer.provideMerge(layer(options)))

/** The address and the limits from the variables under a prefix, such as `<prefix>_GRPC_PORT`. */
export const settings = (prefix: string): Config.Config<Options> =>
  Config.all({
    host: Setting.host(`${prefix}_GRPC_HOST`, {
      description: "The address to listen on.",
      unset: "every address"
    }).pipe(Config.map(Option.getOrUndefined)),
    port: Setting.port(`${prefix}_GRPC_PORT`, {
      description: "The port to listen on; 0 lets the system pick one, which the log names.",
      default: 50051
    }),
    variables: Config.succeed({ host: `${prefix}_GRPC_HOST`, port: `${prefix}_GRPC_PORT` }),
    limits: Config.all({
      maxConcurrency: Setting.count(`${prefix}_MAX_CONCURRENCY`, {
        description:
          "Calls that run at the same time. A call runs from its complete request to its response. One client, identified by its " +
          "certificate and address, gets at most seven eighths of them.",
        default: defaultLimits.maxConcurrency,
        minimum: 1
      }),
      maxQueue: Setting.count(`${prefix}_MAX_QUEUE`, {
        description:
          "Calls that wait for a slot, served round robin over their clients. A call that finds the queue full is answered " +
          "RESOURCE_EXHAUSTED.",
        default: defaultLimits.maxQueue
      }),
      maxQueueWait: Setting.duration(`${prefix}_MAX_QUEUE_WAIT`, {
        description: "How long a call waits for a slot before it is answered RESOURCE_EXHAUSTED.",
        default: defaultLimits.maxQueueWait,
        maximum: "1 hour"
      }),
      maxRequestSize: Setting.count(`${prefix}_MAX_REQUEST_SIZE`, {
        description: "The largest request message, decompressed.",
        unit: "bytes",
        default: defaultLimits.maxRequestSize,
        minimum: 1
      }),
      maxResponseSize: Setting.count(`${prefix}_MAX_RESPONSE_SIZE`, {
        description: "The largest response message.",
        unit: "bytes",
        default: defaultLimits.maxResponseSize,
        minimum: 1
      }),
      maxBytesInFlight: Setting.count(`${prefix}_MAX_BYTES_IN_FLIGHT`, {
        description:
          "Memory of all calls together: requests, responses that clients have not read yet, and 16 KiB a call. Above it the " +
          "client that holds most loses the call that has waited for that client the longest.",
        unit: "bytes",
        default: defaultLimits.maxBytesInFlight,
        minimum: minBytesInFlight
      }),
      maxExemptCalls: Setting.count(`${prefix}_MAX_EXEMPT_CALLS`, {
        description:
          "Health checks, health watches and reflection calls at the same time. Above it the client with most of them loses its " +
          "oldest.",
        default: defaultLimits.maxExemptCalls,
        minimum: 1
      }),
      maxHeaderSize: Setting.count(`${prefix}_MAX_HEADER_SIZE`, {
        description: "The headers of one call.",
        unit: "bytes",
        default: defaultLimits.maxHeaderSize,
        minimum: 1024
      }),
      maxConcurrentStreams: Setting.count(`${prefix}_MAX_CONCURRENT_STREAMS`, {
        description: "Open calls of one connection.",
        default: defaultLimits.maxConcurrentStreams,
        minimum: 1
      }),
      maxConnections: Setting.count(`${prefix}_MAX_CONNECTIONS`, {
        description:
          "Open connections, of which half may be in their TLS handshake. Above it the address with most connections loses the " +
          "one that has been without a call the longest, or else its newest. An idle connection takes 20 KiB, with TLS 75 KiB.",
        default: defaultLimits.maxConnections,
        minimum: 1
      }),
      maxConnectionsPerAddress: Setting.count(`${prefix}_MAX_CONNECTIONS_PER_ADDRESS`, {
        description: "Open connections of one client address; an IPv6 /64 counts as one address.",
        default: defaultLimits.maxConnectionsPerAddress,
        minimum: 1
      }),
      maxConnectionAge: Setting.duration(`${prefix}_MAX_CONNECTION_AGE`, {
        description: "The age at which a connection gets GOAWAY, so that its client reconnects and finds new replicas.",
        default: defaultLimits.maxConnectionAge,
        minimum: "1 second",
        // a tenth is added to it at the most
        maximum: "20 days"
      }),
      keepaliveTime: Setting.duration(`${prefix}_KEEPALIVE_TIME`, {
        description: "How often a silent client gets a ping.",
        default: defaultLimits.keepaliveTime,
        minimum: "1 second"
      }),
      keepaliveTimeout: Setting.duration(`${prefix}_KEEPALIVE_TIMEOUT`, {
        description: "How long a client may take to answer a ping before its connection is closed.",
        default: defaultLimits.keepaliveTimeout,
        minimum: "100 millis"
      })
    })
  })

/**
 * As {@link listen}, by {@link settings}, and over TLS by {@link TlsSettings.server}; what is around calls is no matter of settings.
 */
export const listenConfig =
  <const Interceptors extends ReadonlyArray<ServerInterceptor>>(
    prefix: string,
    around: Pick<Options<Interceptors>, "interceptors" | "observers"> = {}
  ) =>
  <E, R>(services: Layer.Layer<never, E, R>) =>
    Layer.unwrap(
      Effect.gen(function* () {
        const options = { ...(yield* settings(prefix)), ...around }
        const tls = yield* TlsSettings.server(prefix)
        if (Option.isNone(tls)) return listen(options)(services)
        const { allowedClients, files } = tls.value
        const certificates = yield* CertificateWatcher.watchResolved(files, { role: "server" })
        return listen({
          ...options,
          tls: { certificates, allowedClients: Option.getOrUndefined(allowedClients) }
        })(services)
      })
    )
