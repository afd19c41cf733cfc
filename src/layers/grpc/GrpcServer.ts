/**
 * A gRPC server. A service is a layer ({@link serve}): an Effect with the dependencies of the service, which returns one handler for each
 * method. `server/NodeGrpcServer` serves over HTTP/2, `layers/testing` in memory.
 *
 * ```ts
 * Layer.mergeAll(GrpcServer.serve(Echo, handlers, statuses), ...).pipe(NodeGrpcServer.listenConfig("ECHO"))
 * ```
 *
 * A handler is a function from the request to an Effect of the response. Its errors are mapped to statuses by a table, which compiles only
 * if it is complete. A defect becomes INTERNAL with a fixed text and an id; the log line with its cause has the same id. The handler's
 * fiber is interrupted when the client cancels, when the deadline passes, and when the server closes. {@link GrpcCall} has the metadata,
 * the peer and the deadline of the call.
 *
 * Streams of requests and of responses have back-pressure. At most 128 KiB of encoded messages (the window of HTTP/2 and the buffer of
 * Node), 34 messages, and one chunk of the Stream are buffered between writer and reader; a Stream of large messages should have small
 * chunks ({@link Stream.rechunk}). A grpc-js client buffers up to 1 MiB of requests for retries.
 */
import { Context, Duration, Effect, Layer, type Scope, type Stream } from "effect"

import type * as Address from "../config/Address.ts"
import type { Drain } from "../process/Drain.ts"
import type { ListenError, ListenOptions } from "../process/ListenError.ts"
import type * as Certificates from "../tls/Certificates.ts"
import * as EmbeddedProtos from "./EmbeddedProtos.ts"
import type { GrpcCall } from "./GrpcCall.ts"
import type { ErrorOf, Exact, Handlers, ServicesOf, StatusTable, TaggedError, Unimplemented } from "./GrpcHandlers.ts"
import type { ProvidedBy, ServerInterceptor } from "./GrpcInterceptor.ts"
import type { GrpcService } from "./GrpcService.ts"
import type { Status } from "./Status.ts"

/** The limits of a server. */
export interface Limits {
  /** Calls whose handlers run at the same time. */
  readonly maxConcurrency: number
  /** Calls that wait for a slot. */
  readonly maxQueue: number
  /** How long a call waits for a slot. */
  readonly maxQueueWait: Duration.Duration
  /** The largest message of a request, in bytes; a call with a larger one is answered RESOURCE_EXHAUSTED. */
  readonly maxRequestSize: number
  /** The largest message of a response, in bytes; a call with a larger one is answered RESOURCE_EXHAUSTED. */
  readonly maxResponseSize: number
  /** The memory of all calls, in bytes: requests, responses that are not sent yet, and an overhead per call. See {@link CallBudget}. */
  readonly maxBytesInFlight: number
  /** Calls of exempt methods, such as health watches, at the same time. Above it, the client with most of them has its oldest evicted. */
  readonly maxExemptCalls: number
  /**
   * The headers of one call, in bytes as HTTP/2 counts them. A call above the limit fails with RESOURCE_EXHAUSTED: by that status, or, once
   * the client has acknowledged the server's SETTINGS, by a stream reset with ENHANCE_YOUR_CALM, which gRPC clients map to it.
   */
  readonly maxHeaderSize: number
  /**
   * Open calls of one connection. Further calls wait in the client and fail there at their deadline, at no cost for the server. RFC 9113,
   * section 6.5.2, advises against less than 100. The default is what a client of these layers makes at once, since one replica may be the
   * only one that responds.
   */
  readonly maxConcurrentStreams: number
  /**
   * Open connections. Above it, a connection of the address with most of them is evicted: the one that has been idle the longest, or else
   * the newest.
   */
  readonly maxConnections: number
  /** Open connections of one client address; an IPv6 /64 counts as one address. */
  readonly maxConnectionsPerAddress: number
  /** The age, plus or minus a tenth, at which a connection gets GOAWAY, so that its client reconnects and finds new replicas. */
  readonly maxConnectionAge: Duration.Duration
  /** Interval of keepalive pings on an idle connection. */
  readonly keepaliveTime: Duration.Duration
  /** How long a client may take to answer a ping before its connection is closed. */
  readonly keepaliveTimeout: Duration.Duration
}

export const defaultLimits: Limits = {
  // low enough that calls are answered before their deadlines, even under overload (npm run bench:overload)
  maxConcurrency: 100,
  maxQueue: 50,
  maxQueueWait: Duration.millis(50),
  maxRequestSize: 256 * 1024,
  maxResponseSize: 4 * 1024 * 1024,
  maxBytesInFlight: 64 * 1024 * 1024,
  maxExemptCalls: 100,
  maxHeaderSize: 16 * 1024,
  maxConcurrentStreams: 256,
  // small enough for the memory of a container, with idle connections over TLS
  maxConnections: 1000,
  maxConnectionsPerAddress: 250,
  maxConnectionAge: Duration.minutes(5),
  keepaliveTime: Duration.minutes(1),
  keepaliveTimeout: Duration.seconds(10)
}

export interface Tls {
  /** With authorities, clients need a certificate issued by one of them (mutual TLS). */
  readonly certificates: Certificates.Watched
  /** The certificate names of allowed clients; the default is all clients with a valid certificate. */
  readonly allowedClients?: ReadonlySet<string> | undefined
}

export interface Options<
  out Interceptors extends ReadonlyArray<ServerInterceptor> = ReadonlyArray<ServerInterceptor>
> extends ListenOptions {
  readonly limits?: Partial<Limits> | undefined
  /** Interceptors of every call, including health checks and reflection; the first is the outermost. */
  readonly interceptors?: Interceptors | undefined
  /** Outside of `interceptors`; the default is {@link DefaultObservers.server}. */
  readonly observers?: ReadonlyArray<ServerInterceptor> | undefined
  /** Plaintext by default. */
  readonly tls?: Tls | undefined
}

/** From a request, or a Stream of them, to an Effect of a response, or a Stream of them, depending on the kind of the method. */
type Handler<E, R> = (request: never) => Effect.Effect<unknown, E, R> | Stream.Stream<unknown, E, R>

/**
 * Replaces the handler of a method that the server does not implement; its calls are answered UNIMPLEMENTED. Leaving the method out does
 * not compile.
 *
 * ```ts
 * GrpcServer.serve(Greeter, Effect.succeed({ Greet, GreetInAll: GrpcServer.unimplemented }), statuses)
 * ```
 */
export const unimplemented: Unimplemented = { _tag: "Unimplemented" }

/** Options of one service. */
export interface ServeOptions<out Interceptors extends ReadonlyArray<ServerInterceptor>> {
  /** Exempts the methods from `maxConcurrency`, for probes such as health checks. Their requests are limited to 4 KiB. */
  readonly isExempt?: boolean | undefined
  /** Interceptors of this service, inside those of the server; the first is the outermost. */
  readonly interceptors?: Interceptors | undefined
}

/** A service with its handlers. */
export interface Registration<E, R> extends ServeOptions<ReadonlyArray<ServerInterceptor>> {
  /** With its package. */
  readonly name: string
  readonly definition: EmbeddedProtos.ServiceMethods
  readonly handlers: { readonly [method: string]: Handler<E, R> | Unimplemented }
  readonly toStatus: (error: E) => Status
}

export class GrpcServer extends Context.Service<
  GrpcServer,
  {
    /** Adds a service. */
    readonly register: <E, R>(registration: Registration<E, R>) => Effect.Effect<void, never, Exclude<R, GrpcCall>>
    /** The names of the registered services. */
    readonly services: Effect.Effect<ReadonlyArray<string>>
    /** The names of the registered services, now and after each registration. */
    readonly serviceChanges: Stream.Stream<ReadonlyArray<string>>
    /** Opens the port, and drains when the scope closes. */
    readonly listen: Effect.Effect<Address.Address, ListenError, Drain | Scope.Scope>
    /** The address that the server listens on; waits until it does. */
    readonly address: Effect.Effect<Address.Address>
    /** Waits until the process drains or the server closes. */
    readonly awaitLeaving: Effect.Effect<void>
    /** The running and queued calls, and how many have been shed since the start. */
    readonly load: Effect.Effect<{ readonly answering: number; readonly waiting: number; readonly refused: number }>
  }
>()("layers/grpc/GrpcServer") {}

/**
 * Serves a service. `handlers` returns one handler for each method, whose request types are inferred; `statuses` has the status of each of
 * their errors, by tag. The layer does not require services that an interceptor provides ({@link GrpcInterceptor.provide}).
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
export const serve = <
  Methods,
  H extends Handlers<Methods>,
  E,
  R,
  const Interceptors extends ReadonlyArray<ServerInterceptor> = readonly []
>(
  service: GrpcService<Methods>,
  handlers: Effect.Effect<H & Exact<Methods, H>, E, R>,
  statuses: StatusTable<ErrorOf<H>>,
  options?: ServeOptions<Interceptors>
): Layer.Layer<never, E, GrpcServer | R | Exclude<ServicesOf<H>, ProvidedBy<Interceptors>>> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const server = yield* GrpcServer
      // the types of `serve` guarantee both; the implementation is the same for any service
      const methods = (yield* handlers) as unknown as {
        readonly [name: string]: Handler<TaggedError, Exclude<ServicesOf<H>, ProvidedBy<Interceptors>>> | Unimplemented
      }
      const table = new Map(
        Object.entries(statuses as unknown as { readonly [tag: string]: (error: TaggedError) => Status })
      )
      yield* server.register({
        ...options,
        name: service.name,
        definition: EmbeddedProtos.methods(service),
        handlers: methods,
        toStatus: (error) => {
          const toStatus = table.get(error._tag)
          if (toStatus === undefined) throw new Error(`${error._tag} has no status`)
          return toStatus(error)
        }
      })
    })
  )
