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
 * Layer.mergeAll(GrpcServer.serve(Echo, handlers, statuses), ...).pipe(NodeGrpcServer.listenConfig("ECHO"))
 * ```
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

/** What a server takes on. */
export interface Limits {
  /** Calls whose handlers run at the same time. */
  readonly maxConcurrency: number
  /** Calls that wait for a slot. */
  readonly maxQueue: number
  /** How long a call waits for a slot. */
  readonly maxQueueWait: Duration.Duration
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

export interface Tls {
  /** With authorities, a client without a certificate from one of them is not served. */
  readonly certificates: Certificates.Watched
  /** The names of the clients that may call: undefined is every one that has such a certificate. */
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
  /** What TLS is spoken with: undefined is plaintext. */
  readonly tls?: Tls | undefined
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

/** Options of one service. */
export interface ServeOptions<out Interceptors extends ReadonlyArray<ServerInterceptor>> {
  /** Takes no slots of other methods, and needs none of theirs: for health checks and the like. A request has 4 KiB at the most. */
  readonly isExempt?: boolean | undefined
  /** Interceptors of this service alone, within those of the server; the first is the outermost. */
  readonly interceptors?: Interceptors | undefined
}

/** What {@link GrpcServer} is given to answer the calls of a service. */
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
>()("layers/grpc/GrpcServer") {}

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
      // The types above have promised all that these two say; what is behind them is the same for any service.
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
