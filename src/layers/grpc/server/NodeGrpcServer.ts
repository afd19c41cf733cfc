/**
 * {@link GrpcServer} over grpc-js: opens the port once every service is registered, and drains when its layer closes.
 */
import { Server } from "@grpc/grpc-js"
import { Deferred, Duration, Effect, Layer, Option, type Scope, Stream, SubscriptionRef } from "effect"

import * as Address from "../../config/Address.ts"
import { Drain } from "../../process/Drain.ts"
import type { ListenError } from "../../process/ListenError.ts"
import * as CallbackGuard from "../../telemetry/CallbackGuard.ts"
import * as FileDescriptors from "../../telemetry/FileDescriptors.ts"
import * as CertificateWatcher from "../../tls/CertificateWatcher.ts"
import * as TlsSettings from "../../tls/TlsSettings.ts"
import type { ProvidedBy, ServerInterceptor } from "../GrpcInterceptor.ts"
import * as GrpcLog from "../GrpcLog.ts"
import { defaultLimits, GrpcServer, type Limits, type Options } from "../GrpcServer.ts"
import { AdmissionControl } from "./AdmissionControl.ts"
import { CallBudget } from "./CallBudget.ts"
import { CallRegistry } from "./CallRegistry.ts"
import { annotatePeer, interceptorsOf, register } from "./Registration.ts"
import { ServerCall } from "./ServerCall.ts"
import { ServerConnections } from "./ServerConnections.ts"
import * as ServerMetrics from "./ServerMetrics.ts"
import { settings } from "./ServerSettings.ts"

/** The parts of a server. */
interface Parts {
  readonly server: Server
  readonly calls: CallRegistry
  readonly connections: ServerConnections
  readonly admission: AdmissionControl
}

/** A server without services that does not listen yet. */
export const layer = (options: Options) =>
  Layer.effect(
    GrpcServer,
    Effect.gen(function* () {
      yield* GrpcLog.redirect
      const parts = yield* make(options)
      const address = yield* Deferred.make<Address.Address>()
      const leaving = yield* Deferred.make<void>()
      const names = yield* SubscriptionRef.make<ReadonlyArray<string>>([])
      return GrpcServer.of({
        register: (registration) =>
          Effect.andThen(
            register(registration, interceptorsOf(options), (method) => parts.calls.register(parts.server, method)),
            SubscriptionRef.update(names, (names) => [...names, registration.name])
          ),
        services: SubscriptionRef.get(names),
        serviceChanges: SubscriptionRef.changes(names),
        listen: Effect.tap(listenUntilDrained(parts, options, leaving), (bound) =>
          Effect.andThen(warnOfPlaintext(options, bound, names), Deferred.succeed(address, bound))
        ),
        address: Deferred.await(address),
        awaitLeaving: Deferred.await(leaving),
        load: Effect.sync(() => parts.admission.counts())
      })
    })
  )

const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<Parts, never, Scope.Scope> {
  const limits = yield* withinDescriptors({ ...defaultLimits, ...options.limits })
  const context = annotatePeer(yield* Effect.context<never>())
  const runFork = Effect.runForkWith(context)
  const admission = new AdmissionControl(limits)
  const budget = new CallBudget(limits.maxBytesInFlight)
  const calls = new CallRegistry({
    ...limits,
    admission,
    exemptAdmission: new AdmissionControl({
      maxConcurrency: limits.maxExemptCalls,
      maxQueue: 0,
      maxQueueWait: Duration.zero,
      whenFull: "evict"
    }),
    budget,
    interceptors: interceptorsOf(options),
    context
  })
  const server = new Server({
    interceptors: [ServerCall.interceptor(calls)],
    // channelz is not served, so its counters are disabled
    "grpc.enable_channelz": 0,
    "grpc.max_receive_message_length": limits.maxRequestSize,
    "grpc.max_send_message_length": limits.maxResponseSize,
    "grpc.keepalive_time_ms": Duration.toMillis(limits.keepaliveTime),
    "grpc.keepalive_timeout_ms": Duration.toMillis(limits.keepaliveTimeout)
  })
  const connections = new ServerConnections(server, {
    ...limits,
    tls: options.tls,
    guard: CallbackGuard.make(context),
    onRefused: (refusal, address) => void runFork(ServerMetrics.refused(refusal, address)),
    onSecured: (secured) => void runFork(ServerMetrics.secured(secured)),
    onAcceptError: (error) => void runFork(ServerMetrics.acceptFailed(error)),
    calls
  })
  yield* ServerMetrics.observe({ admission, budget, connections, limits })
  if (options.tls !== undefined) {
    yield* options.tls.certificates.changes.pipe(
      Stream.runForEach((certificates) => Effect.sync(() => connections.setCertificates(certificates))),
      Effect.forkScoped
    )
  }
  return { server, calls, connections, admission }
})

/** Opens the port, and drains when the scope closes. Completes `leaving` when the drain of the server or of the process starts. */
const listenUntilDrained = Effect.fnUntraced(function* (
  parts: Parts,
  options: Options,
  leaving: Deferred.Deferred<void>
): Effect.fn.Return<Address.Address, ListenError, Drain | Scope.Scope> {
  const { awaitDraining } = yield* Drain
  yield* Effect.forkScoped(Effect.andThen(awaitDraining, Deferred.succeed(leaving, undefined)))
  const bound = yield* Effect.acquireRelease(parts.connections.listen(options), () =>
    Effect.andThen(Deferred.succeed(leaving, undefined), drain(parts))
  )
  return bound
})

/** Names the services, since some are more sensitive than others. */
const warnOfPlaintext = Effect.fnUntraced(function* (
  { tls }: Options,
  bound: Address.Address,
  names: SubscriptionRef.SubscriptionRef<ReadonlyArray<string>>
) {
  if (tls !== undefined || Address.isLoopback(bound.host)) return
  yield* Effect.logWarning(
    "gRPC server without TLS on a non-loopback address: traffic is neither encrypted nor authenticated"
  ).pipe(
    Effect.annotateLogs({ address: Address.format(bound), services: (yield* SubscriptionRef.get(names)).join(", ") })
  )
})

/** How long the statuses of cut calls may take to reach their clients. */
const cutTimeout = Duration.seconds(1)

/** Waits until calls in flight have finished, cuts those that take too long, and closes all connections. */
const drain = Effect.fnUntraced(function* ({ calls, connections }: Parts) {
  const { ended: before } = calls
  const timeout = yield* (yield* Drain).timeLeft
  const closed = yield* Deferred.make<void>()
  const awaitClosed = (atMost: Duration.Duration) =>
    Deferred.await(closed).pipe(Effect.interruptible, Effect.timeoutOption(atMost))
  connections.drain(() => Deferred.doneUnsafe(closed, Effect.void))
  yield* awaitClosed(timeout)
  const {
    ended,
    open: { size: cut }
  } = calls
  if (!(yield* Deferred.isDone(closed))) {
    calls.cut()
    yield* awaitClosed(cutTimeout)
  }
  connections.destroy()
  yield* Effect.logInfo(`gRPC server closed: ${ended - before} calls in flight finished, ${cut} aborted`)
})

/** Lowers the connection limit if it exceeds the file descriptors of the process, some of which are reserved for the admin port. */
const withinDescriptors = Effect.fnUntraced(function* (limits: Limits) {
  const descriptors = Option.getOrElse(yield* FileDescriptors.limit, () => Infinity)
  const maxConnections = Math.max(1, Math.min(limits.maxConnections, descriptors - FileDescriptors.reserved))
  if (maxConnections === limits.maxConnections) return limits
  yield* Effect.logWarning(
    `gRPC connection limit lowered from ${limits.maxConnections} to ${maxConnections}: ` +
      `the process may open ${descriptors} file descriptors (ulimit -n)`
  )
  return { ...limits, maxConnections }
})

/** Opens the port once the services are registered. It closes before the dependencies of the services. */
export const listen =
  <const Interceptors extends ReadonlyArray<ServerInterceptor>>(options: Options<Interceptors>) =>
  <E, R>(
    services: Layer.Layer<never, E, R>
  ): Layer.Layer<GrpcServer, E | ListenError, Exclude<R, GrpcServer | ProvidedBy<Interceptors>> | Drain> =>
    Layer.effectDiscard(
      Effect.gen(function* () {
        const server = yield* GrpcServer
        const address = yield* server.listen
        yield* Effect.logInfo(`gRPC server listening on ${Address.format(address)}`)
      })
    ).pipe(Layer.provide(services), Layer.provideMerge(layer(options)))

/**
 * {@link listen} with {@link settings}, and over TLS with {@link TlsSettings.server}. Interceptors are passed as arguments; `host` is the
 * address to listen on unless it is set.
 */
export const listenConfig =
  <const Interceptors extends ReadonlyArray<ServerInterceptor>>(
    prefix: string,
    { host: defaultHost, ...around }: Pick<Options<Interceptors>, "host" | "interceptors" | "observers"> = {}
  ) =>
  <E, R>(services: Layer.Layer<never, E, R>) =>
    Layer.unwrap(
      Effect.gen(function* () {
        const set = yield* settings(prefix)
        const options = { ...set, ...around, host: set.host ?? defaultHost }
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
