/**
 * A gRPC server over grpc-js.
 *
 * A service is a layer ({@link serve}): an effect that has its dependencies and yields one function a method, from the
 * request to an Effect of the response. What a method fails with becomes a status in one place, by a table that must be
 * complete to compile. A defect becomes INTERNAL with a fixed text and an id; the log line of its cause has that id too. A
 * call that its client cancels, or that outlives its deadline, interrupts its fiber.
 *
 * A handler that answers with a Stream, or gets one, is given and takes messages as fast as the client takes and gives them.
 * Whoever makes messages is ahead of whoever reads them by a window and no more: 128 KiB of encoded messages, each with the
 * five bytes that gRPC puts before it (64 KiB are HTTP/2's window, 64 KiB Node's mark at the reader), 34 messages (Node's mark
 * for objects is 16 at each end), and one chunk of the Stream, which is made as a whole: a Stream of large messages should have
 * small chunks ({@link Stream.rechunk}). A client of grpc-js may be a MiB of requests ahead instead of 128 KiB: it
 * keeps as much to be able to send it again, and takes it for sent. When its reader goes away, a Stream is interrupted; and so is a
 * handler in the middle of its requests, but for one whose client says that they are all before it cancels, as Node's own do.
 *
 * What there is to know of a call besides the request is in the service {@link GrpcCall}.
 *
 * {@link listen} opens the port when every service is there, and drains when it closes:
 *
 * ```ts
 * Layer.mergeAll(GrpcServer.serve(Echo, handlers, statuses), ...).pipe(
 *   GrpcServer.listenConfig("ECHO"),
 *   Layer.provide(ProtoFiles.layer("proto"))
 * )
 * ```
 */
import { Server } from "@grpc/grpc-js"
import {
  Config,
  Context,
  Deferred,
  Duration,
  Effect,
  Layer,
  Metric,
  Option,
  type Scope,
  Stream,
  SubscriptionRef
} from "effect"

import * as Address from "./Address.ts"
import * as AdmissionControl from "./AdmissionControl.ts"
import * as Callback from "./Callback.ts"
import * as CallBudget from "./CallBudget.ts"
import * as Certificates from "./Certificates.ts"
import { Drain } from "./Drain.ts"
import * as FileDescriptors from "./FileDescriptors.ts"
import type { GrpcCall } from "./GrpcCall.ts"
import * as GrpcCalls from "./GrpcCalls.ts"
import * as GrpcConnections from "./GrpcConnections.ts"
import * as GrpcContentType from "./GrpcContentType.ts"
import type { ErrorOf, Exact, Handlers, ServicesOf, StatusTable, TaggedError, Unimplemented } from "./GrpcHandlers.ts"
import type { ServerInterceptor } from "./GrpcInterceptor.ts"
import * as GrpcLog from "./GrpcLog.ts"
import * as GrpcObservers from "./GrpcObservers.ts"
import * as GrpcService from "./GrpcService.ts"
import * as GrpcTimeout from "./GrpcTimeout.ts"
import type { ListenError, ListenOptions } from "./ListenError.ts"
import * as LogLimit from "./LogLimit.ts"
import * as Observed from "./Observed.ts"
import * as PeerIdentity from "./PeerIdentity.ts"
import * as Setting from "./Setting.ts"
import type { Status } from "./Status.ts"
import * as TlsSettings from "./TlsSettings.ts"

/** What a server takes on. */
export interface Limits extends Omit<AdmissionControl.Limits, "whenFull"> {
  /** One message of a request, in bytes; a call with a larger one is RESOURCE_EXHAUSTED. */
  readonly maxRequestSize: number
  /** One message of a response, in bytes; a call whose answer is larger is RESOURCE_EXHAUSTED. */
  readonly maxResponseSize: number
  /**
   * What all calls may hold in memory, over all connections, in bytes: requests and answers that are underway, and 16 KiB a call. See
   * {@link CallBudget}.
   */
  readonly maxBytesInFlight: number
  /**
   * Calls at the same time of methods that take no slots of others, such as health watches. The client that has most of them loses
   * its oldest one to another client.
   */
  readonly maxExemptCalls: number
  /**
   * The headers of one call, in bytes as HTTP/2 counts them; a call with more is reset. It holds once a client has acknowledged
   * it, a round trip after it has connected: until then Node's own 64 KiB do.
   */
  readonly maxHeaderSize: number
  /**
   * Calls that are open at the same time on one connection. A client keeps what is above, and gives it up for nothing when its
   * time is over; a server that is sent more than it can do answers calls that nobody waits for any more. RFC 9113 (section
   * 6.5.2) advises against less than 100.
   */
  readonly maxConcurrentStreams: number
  /**
   * Connections that are open at the same time. Above it, one of the address that has the most is closed: the one that has been
   * without a call the longest, or else the newest.
   */
  readonly maxConnections: number
  /** The same from one address; all of an IPv6 /64 counts as one. */
  readonly maxConnectionsPerAddress: number
  /** After this long, give or take a tenth, a client is told to connect again, so that it finds new replicas. */
  readonly maxConnectionAge: Duration.Duration
  /** How often a connection on which nothing comes is asked whether its client is there. */
  readonly keepaliveTime: Duration.Duration
  /** How long a client has to answer that. */
  readonly keepaliveTimeout: Duration.Duration
}

/** What is taken for granted where nothing else is said. */
export const defaultLimits: Limits = {
  // A handler that never waits is done with 100 calls in 6 to 30 ms, and with three times what it can do still answers six to nine
  // of ten that it could; with 500, calls have mostly been given up by the time that they are answered (npm run bench:overload).
  maxConcurrency: 100,
  maxQueue: 50,
  maxQueueWait: Duration.millis(50),
  maxRequestSize: 256 * 1024,
  maxResponseSize: 4 * 1024 * 1024,
  maxBytesInFlight: 64 * 1024 * 1024,
  maxExemptCalls: 100,
  maxHeaderSize: 16 * 1024,
  maxConcurrentStreams: 100,
  // an idle connection takes 75 KiB with TLS and 20 KiB without, half a handshake 57 KiB (Node 26): 75 MiB of 384
  maxConnections: 1000,
  maxConnectionsPerAddress: 250,
  maxConnectionAge: Duration.minutes(5),
  keepaliveTime: Duration.minutes(1),
  keepaliveTimeout: Duration.seconds(10)
}

export interface Options extends ListenOptions {
  readonly limits?: Partial<Limits> | undefined
  /** What is done around every call; the first is the outermost. */
  readonly interceptors?: ReadonlyArray<ServerInterceptor> | undefined
  /** What every call is seen by, outside of those: {@link GrpcObservers.server} unless it is given. */
  readonly observers?: ReadonlyArray<ServerInterceptor> | undefined
  /** What TLS is spoken with: undefined is plaintext. */
  readonly tls?: GrpcConnections.Tls | undefined
}

/** From a request, or a Stream of them, to an Effect of the response, or a Stream of them: by the kind of the method. */
type Handler<E, R> = (request: never) => Effect.Effect<unknown, E, R> | Stream.Stream<unknown, E, R>

/**
 * In place of the handler of a method that this server does not offer: it is answered UNIMPLEMENTED, as a method is that is not in
 * the proto. Leaving the method out does not compile.
 *
 * ```ts
 * GrpcServer.serve(Greeter, Effect.succeed({ Greet, GreetInAll: GrpcServer.unimplemented }), statuses)
 * ```
 */
export const unimplemented: Unimplemented = { _tag: "Unimplemented" }

export interface Registration<E, R> {
  /** With its package. */
  readonly name: string
  readonly definition: GrpcService.ServerMethods
  readonly handlers: { readonly [method: string]: Handler<E, R> | Unimplemented }
  readonly toStatus: (error: E) => Status
  /** Takes no slots of other methods, and none of theirs is needed: for probes. Requests are 4 KiB at the most. */
  readonly isExempt?: boolean | undefined
}

export class GrpcServer extends Context.Service<
  GrpcServer,
  {
    /** Adds a service. */
    readonly register: <E, R>(registration: Registration<E, R>) => Effect.Effect<void, never, Exclude<R, GrpcCall>>
    /** The names of the services that have been added so far. */
    readonly services: Effect.Effect<ReadonlyArray<string>>
    /** The same, now and whenever one is added. */
    readonly serviceChanges: Stream.Stream<ReadonlyArray<string>>
    /** Opens the port until the scope closes, which drains. */
    readonly listen: Effect.Effect<Address.Address, ListenError, Drain | Scope.Scope>
    /** Where it listens, once it does. */
    readonly address: Effect.Effect<Address.Address>
    /** Waits until no more calls should come: the process drains, or the server closes. */
    readonly awaitLeaving: Effect.Effect<void>
    /** The calls that are being answered and that wait, and those that have been refused since the start. */
    readonly load: Effect.Effect<{ readonly answering: number; readonly waiting: number; readonly refused: number }>
  }
>()("onlinebooks/layers/GrpcServer") {
  /** A server without services that does not listen yet. */
  static readonly layer = (options: Options) =>
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
        const context = yield* Effect.context<never>()
        const { interceptors = [], observers = GrpcObservers.server } = options
        const calls = GrpcCalls.make({
          admission,
          exemptAdmission,
          budget,
          observers,
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
        const connections: GrpcConnections.GrpcConnections = GrpcConnections.make(server, {
          ...limits,
          tls: options.tls,
          guard: Callback.make(context),
          onRefused: (refusal) => void runFork(reportRefusal(refusal)),
          onSecured: (secured) => void runFork(reportSecured(secured)),
          onAcceptError: (error) => void runFork(reportAcceptError(error)),
          onEntering: (stream, headers) => {
            GrpcContentType.removeOther(headers)
            GrpcTimeout.cap(headers)
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
          const context = yield* Effect.context<Exclude<R, GrpcCall>>()
          for (const [methodName, method] of Object.entries(definition)) {
            const handler = handlers[methodName]
            if (handler === undefined) return yield* Effect.die(new Error(`${method.path} has no handler`))
            // grpc-js answers UNIMPLEMENTED to what it does not know
            if (typeof handler !== "function") continue
            for (const interceptor of [...observers, ...interceptors]) {
              yield* (
                interceptor.method?.({ service: name, method: methodName, kind: GrpcService.kindOf(method) }) ??
                  Effect.void
              )
            }
            const { handle, kind } = calls.handle({ definition: method, handler, context, toStatus, isExempt })
            // the handler has encoded it
            const serialize = (response: Buffer) => response
            if (!server.register(method.path, handle, serialize, method.requestDeserialize, kind)) {
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
          connections.onEmpty(() => Deferred.doneUnsafe(closed, Effect.void))
          connections.leave()
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
}

/** Room for a few calls, in bytes. */
const minBytesInFlight = 1024 * 1024

/** How long the answers to calls that were cut have to reach their clients. */
const lastWords = Duration.seconds(1)

/** Connections that were not served or were closed at a limit, by the reason. */
export const connectionsRefused = Metric.counter("grpc_server_connections_refused_total", {
  description: "Connections that were not served or were closed at a limit, by the reason.",
  incremental: true
})

const refusals = LogLimit.make("refused connections")

const reportRefusal = ({ address, detail, reason }: GrpcConnections.Refusal) =>
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

const acceptErrorLines = LogLimit.make("errors of the listening socket", 1)

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

const observeConnections = (connections: GrpcConnections.GrpcConnections, limits: Limits) =>
  Effect.all(
    [
      Observed.gauge("grpc_server_connections", "Connections that are open", () => connections.counts().open),
      Observed.gauge(
        "grpc_server_connections_limit",
        "How many connections are open at the same time at the most",
        () => limits.maxConnections
      ),
      Observed.gauge(
        "grpc_server_tls_handshakes",
        "Connections that have not completed their TLS handshake",
        () => connections.counts().handshakes
      ),
      // counters are there from the start, so that their first increase is seen
      ...GrpcConnections.refusalReasons.map((reason) =>
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
      Observed.gauge(
        "grpc_server_calls_in_flight",
        "Calls that are being answered, of those that the limit counts",
        () => admission.counts().answering
      ),
      Observed.gauge("grpc_server_calls_queued", "Calls that wait for their turn", () => admission.counts().waiting),
      Observed.gauge(
        "grpc_server_calls_limit",
        "How many calls are answered at the same time at the most",
        () => limits.maxConcurrency
      ),
      Observed.gauge(
        "grpc_server_bytes_in_flight",
        "Bytes that calls hold: requests and answers that are underway, and an allowance for each call",
        () => budget.counts().bytes
      ),
      Observed.gauge(
        "grpc_server_bytes_in_flight_limit",
        "How many bytes calls may hold at the most",
        () => limits.maxBytesInFlight
      ),
      Observed.counter(
        "grpc_server_calls_evicted_total",
        "Calls that waited for their client while others wanted the memory they held",
        () => budget.counts().evicted
      ),
      // it is there from the start, so that its first increase is seen
      Metric.update(GrpcCalls.shed, 0)
    ],
    { discard: true }
  )

const reportSecured = ({ cipher, peer, version }: GrpcConnections.Secured) =>
  Effect.annotateLogs(
    Effect.logDebug(`A connection from ${peer.address} is secured with ${version}, ${cipher}`),
    PeerIdentity.annotations(peer)
  )

/**
 * Serves a service: what `handlers` yields answers its methods, `statuses` says what becomes of each of their errors.
 *
 * ```ts
 * GrpcServer.serve(
 *   RecommendationsService,
 *   Effect.gen(function* () {
 *     const recommender = yield* Recommender
 *     return { Recommend: (request) => recommender.recommend(toQuery(request)).pipe(Effect.map(toResponse)) }
 *   }),
 *   { CategoryNotFound: () => Status.notFound("Category not found") }
 * )
 * ```
 */
export const serve = <Methods, H extends Handlers<Methods>, E, R>(
  service: GrpcService.GrpcService<Methods>,
  handlers: Effect.Effect<H & Exact<Methods, H>, E, R>,
  statuses: StatusTable<ErrorOf<H>>,
  options?: Pick<Registration<never, never>, "isExempt">
): Layer.Layer<never, E | GrpcService.ProtoError, GrpcServer | GrpcService.ProtoFiles | R | ServicesOf<H>> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const server = yield* GrpcServer
      const definition = yield* GrpcService.loadServed(service)
      // The types above have promised all that these two say; what is behind them is the same for any service.
      const methods = (yield* handlers) as unknown as {
        readonly [name: string]: Handler<TaggedError, ServicesOf<H>> | Unimplemented
      }
      const table = new Map(
        Object.entries(statuses as unknown as { readonly [tag: string]: (error: TaggedError) => Status })
      )
      yield* server.register({
        ...options,
        name: service.name,
        definition,
        handlers: methods,
        toStatus: (error) => {
          const toStatus = table.get(error._tag)
          if (toStatus === undefined) throw new Error(`${error._tag} has no status`)
          return toStatus(error)
        }
      })
    })
  )

/** Opens the port once the services are there; the layer closes first, before what the services need. */
export const listen =
  (options: Options) =>
  <E, R>(
    services: Layer.Layer<never, E, R>
  ): Layer.Layer<GrpcServer, E | ListenError, Exclude<R, GrpcServer> | Drain> =>
    Layer.effectDiscard(
      Effect.gen(function* () {
        const server = yield* GrpcServer
        const address = yield* server.listen
        yield* Effect.logInfo(`gRPC is served on ${Address.format(address)}`)
      })
    ).pipe(Layer.provide(services), Layer.provideMerge(GrpcServer.layer(options)))

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
  (prefix: string, around: Pick<Options, "interceptors" | "observers"> = {}) =>
  <E, R>(services: Layer.Layer<never, E, R>) =>
    Layer.unwrap(
      Effect.gen(function* () {
        const options = { ...(yield* settings(prefix)), ...around }
        const tls = yield* TlsSettings.server(prefix)
        if (Option.isNone(tls)) return listen(options)(services)
        const { allowedClients, files } = tls.value
        const certificates = yield* Certificates.watchResolved(files, { role: "server" })
        return listen({
          ...options,
          tls: { certificates, allowedClients: Option.getOrUndefined(allowedClients) }
        })(services)
      })
    )
