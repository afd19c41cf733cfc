/**
 * A gRPC server. A service is a layer ({@link serve}): an Effect with the dependencies of the service, which returns one handler for each
 * method. `server/NodeGrpcServer` serves over HTTP/2, `layers/testing` in memory.
 *
 * ```ts
 * Layer.mergeAll(GrpcServer.serve(Echo, handlers, statuses), ...).pipe(NodeGrpcServer.listenConfig("ECHO"))
 * ```
 *
 * A handler is a function from the request to an Effect of the response. Its errors become statuses by a table that must be complete to
 * compile. A defect becomes INTERNAL with a fixed text and an id; the log line with its cause has the same id. The handler's fiber is
 * interrupted when the client cancels, when the deadline passes, and when the server closes. {@link GrpcCall} has what a handler may
 * need besides the request.
 *
 * Streams of requests and of responses have back-pressure. The writer is ahead of the reader by at most 128 KiB of encoded messages (the
 * window of HTTP/2 and the buffer of Node), 34 messages, and one chunk of the Stream; a Stream of large messages should have small
 * chunks ({@link Stream.rechunk}). A client of grpc-js may be 1 MiB of requests ahead, which it keeps to be able to retry.
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
  /** The memory of all calls together, in bytes: requests, responses that are not sent yet, and an overhead for each call. See {@link CallBudget}. */
  readonly maxBytesInFlight: number
  /** Calls of exempt methods, such as health watches, at the same time. Above it, the client with most of them loses its oldest one. */
  readonly maxExemptCalls: number
  /**
   * The headers of one call, in bytes as HTTP/2 counts them; a stream with more is reset. The limit holds once the client has acknowledged
   * it, one round trip after it has connected; until then Node's limit of 64 KiB holds.
   */
  readonly maxHeaderSize: number
  /**
   * Open calls of one connection. Calls above it wait in the client, which gives them up at their deadlines at no cost for the server. RFC
   * 9113, section 6.5.2, advises against less than 100.
   */
  readonly maxConcurrentStreams: number
  /**
   * Open connections. Above it, the address with most connections loses the one that has been without a call the longest, or else its
   * newest.
   */
  readonly maxConnections: number
  /** Open connections of one client address; an IPv6 /64 counts as one address. */
  readonly maxConnectionsPerAddress: number
  /** The age, plus or minus a tenth, at which a connection gets GOAWAY, so that its client reconnects and finds new replicas. */
  readonly maxConnectionAge: Duration.Duration
  /** How often a silent connection is pinged. */
  readonly keepaliveTime: Duration.Duration
  /** How long a client may take to answer a ping before its connection is closed. */
  readonly keepaliveTimeout: Duration.Duration
}

export const defaultLimits: Limits = {
  // low enough that calls are answered before their clients give up, even under overload (npm run bench:overload)
  maxConcurrency: 100,
  maxQueue: 50,
  maxQueueWait: Duration.millis(50),
  maxRequestSize: 256 * 1024,
  maxResponseSize: 4 * 1024 * 1024,
  maxBytesInFlight: 64 * 1024 * 1024,
  maxExemptCalls: 100,
  maxHeaderSize: 16 * 1024,
  maxConcurrentStreams: 100,
  // with TLS, idle connections then take a fifth of the memory of a container
  maxConnections: 1000,
  maxConnectionsPerAddress: 250,
  maxConnectionAge: Duration.minutes(5),
  keepaliveTime: Duration.minutes(1),
  keepaliveTimeout: Duration.seconds(10)
}

export interface Tls {
  /** With authorities, clients need a certificate that one of them has issued (mutual TLS). */
  readonly certificates: Certificates.Watched
  /** The names in the certificates of the clients that may call; the default is all clients with a valid certificate. */
  readonly allowedClients?: ReadonlySet<string> | undefined
}

export interface Options<
  out Interceptors extends ReadonlyArray<ServerInterceptor> = ReadonlyArray<ServerInterceptor>
> extends ListenOptions {
  readonly limits?: Partial<Limits> | undefined
  /** Interceptors of every call; the first is the outermost. */
  readonly interceptors?: Interceptors | undefined
  /** Outside of `interceptors`; the default is {@link DefaultObservers.server}. */
  readonly observers?: ReadonlyArray<ServerInterceptor> | undefined
  /** Plaintext by default. */
  readonly tls?: Tls | undefined
}

/** From a request, or a Stream of them, to an Effect of a response, or a Stream of them, depending on the kind of the method. */
type Handler<E, R> = (request: never) => Effect.Effect<unknown, E, R> | Stream.Stream<unknown, E, R>

/**
 * Stands in for the handler of a method that the server does not offer; its calls are answered UNIMPLEMENTED. Leaving the method out does
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
  /** Interceptors of this service alone, within those of the server; the first is the outermost. */
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
    /** Opens the port. Drains when the scope closes. */
    readonly listen: Effect.Effect<Address.Address, ListenError, Drain | Scope.Scope>
    /** The address that the server listens on; waits until it does. */
    readonly address: Effect.Effect<Address.Address>
    /** Waits until the process drains or the server closes. */
    readonly awaitLeaving: Effect.Effect<void>
    /** The calls that run and that wait for a slot, and how many have been refused since the start. */
    readonly load: Effect.Effect<{ readonly answering: number; readonly waiting: number; readonly refused: number }>
  }
>()("layers/grpc/GrpcServer") {}

/**
 * Serves a service. `handlers` returns one handler for each method, whose request types are inferred; `statuses` has the status of each of
 * their errors, by tag. Services that an interceptor provides are not required from the layer ({@link GrpcInterceptor.provide}).
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
