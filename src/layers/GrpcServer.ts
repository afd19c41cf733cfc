/**
 * A gRPC server over grpc-js.
 *
 * A service is a layer ({@link serve}): an effect that has its dependencies and yields one function a method, from the
 * request to an Effect of the response. What a method fails with becomes a status in one place, by a table that must be
 * complete to compile. A defect becomes INTERNAL with a fixed text and an id; the log line of its cause has that id too. A
 * call that its client cancels, or that outlives its deadline, interrupts its fiber.
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
import { Server, ServerCredentials, type ServiceDefinition } from "@grpc/grpc-js"
import { Config, Context, Deferred, Duration, Effect, Layer, Option, type Scope } from "effect"

import * as Address from "./Address.ts"
import { Drain } from "./Drain.ts"
import * as GrpcCalls from "./GrpcCalls.ts"
import type { ErrorOf, Exact, Handlers, ServicesOf, StatusTable, TaggedError } from "./GrpcHandlers.ts"
import * as GrpcLog from "./GrpcLog.ts"
import * as GrpcService from "./GrpcService.ts"
import { fromCause, type ListenError, type ListenOptions } from "./ListenError.ts"
import * as Setting from "./Setting.ts"
import type { Status } from "./Status.ts"

export class GrpcServer extends Context.Service<
  GrpcServer,
  {
    /** Adds a service, by functions from a decoded request to its answer. */
    readonly register: <E, R>(
      definition: ServiceDefinition,
      handlers: { readonly [name: string]: (request: unknown) => Effect.Effect<unknown, E, R> },
      toStatus: (error: E) => Status
    ) => Effect.Effect<void, never, R>
    /** Opens the port until the scope closes, which drains. */
    readonly listen: (options: ListenOptions) => Effect.Effect<Address.Address, ListenError, Drain | Scope.Scope>
    /** Where it listens, once it does. */
    readonly address: Effect.Effect<Address.Address>
  }
>()("onlinebooks/layers/GrpcServer") {
  /** A server without services that does not listen yet. */
  static readonly layer = Layer.effect(
    GrpcServer,
    Effect.gen(function* () {
      yield* GrpcLog.redirect
      const calls = GrpcCalls.make()
      const server = new Server({ interceptors: [calls.interceptor] })
      const address = yield* Deferred.make<Address.Address>()

      const register = Effect.fnUntraced(function* <E, R>(
        definition: ServiceDefinition,
        handlers: { readonly [name: string]: (request: unknown) => Effect.Effect<unknown, E, R> },
        toStatus: (error: E) => Status
      ) {
        const runFork = Effect.runForkWith(yield* Effect.context<R>())
        for (const [name, method] of Object.entries(definition)) {
          const handler = handlers[name]
          if (handler === undefined) return yield* Effect.die(new Error(`${method.path} has no handler`))
          const isNew = server.register(
            method.path,
            calls.unary({ definition: method, handler, runFork, toStatus }),
            // the handler has encoded it
            (response: Buffer) => response,
            method.requestDeserialize,
            "unary"
          )
          if (!isNew) return yield* Effect.die(new Error(`${method.path} is served already`))
        }
      })

      const listen = (options: ListenOptions) =>
        Effect.acquireRelease(
          Effect.tap(bind(server, options), (bound) => Deferred.succeed(address, bound)),
          (bound) => drain(server, calls, bound)
        )

      return GrpcServer.of({ register, listen, address: Deferred.await(address) })
    })
  )
}

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
export const serve = <Definition, H extends Handlers<Definition>, E, R>(
  service: GrpcService.GrpcService<Definition>,
  handlers: Effect.Effect<H & Exact<Definition, H>, E, R>,
  statuses: StatusTable<ErrorOf<H>>
): Layer.Layer<never, E | GrpcService.ProtoError, GrpcServer | GrpcService.ProtoFiles | R | ServicesOf<H>> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const server = yield* GrpcServer
      const definition = yield* GrpcService.load(service)
      // The types above have promised all that these two say; what is behind them is the same for any service.
      const methods = (yield* handlers) as unknown as {
        readonly [name: string]: (request: unknown) => Effect.Effect<unknown, TaggedError, ServicesOf<H>>
      }
      const table = new Map(
        Object.entries(statuses as unknown as { readonly [tag: string]: (error: TaggedError) => Status })
      )
      yield* server.register(definition, methods, (error: TaggedError) => {
        const toStatus = table.get(error._tag)
        if (toStatus === undefined) throw new Error(`${error._tag} has no status`)
        return toStatus(error)
      })
    })
  )

/** Opens the port once the services are there; the layer closes first, before what the services need. */
export const listen =
  (options: ListenOptions) =>
  <E, R>(
    services: Layer.Layer<never, E, R>
  ): Layer.Layer<GrpcServer, E | ListenError, Exclude<R, GrpcServer> | Drain> =>
    Layer.effectDiscard(
      Effect.gen(function* () {
        const server = yield* GrpcServer
        const address = yield* server.listen(options)
        yield* Effect.logInfo(`gRPC is served on ${Address.format(address)}`)
      })
    ).pipe(Layer.provide(services), Layer.provideMerge(GrpcServer.layer))

/** The address under a prefix: `<prefix>_GRPC_HOST` (every address) and `<prefix>_GRPC_PORT` (50051). */
export const settings = (prefix: string): Config.Config<ListenOptions> =>
  Config.all({
    host: Setting.host(`${prefix}_GRPC_HOST`).pipe(Config.map(Option.getOrUndefined)),
    port: Setting.port(`${prefix}_GRPC_PORT`, 50051),
    variables: Config.succeed({ host: `${prefix}_GRPC_HOST`, port: `${prefix}_GRPC_PORT` })
  })

/** As {@link listen}, by {@link settings}. */
export const listenConfig =
  (prefix: string) =>
  <E, R>(services: Layer.Layer<never, E, R>) =>
    Layer.unwrap(Effect.map(settings(prefix), (options) => listen(options)(services)))

const bind = (server: Server, options: ListenOptions): Effect.Effect<Address.Address, ListenError> => {
  const bindTo = (host: string) =>
    Effect.callback<Address.Address, ListenError>((resume) =>
      server.bindAsync(
        Address.format({ host, port: options.port }),
        ServerCredentials.createInsecure(),
        (cause, port) =>
          resume(cause === null ? Effect.succeed({ host, port }) : Effect.fail(fromCause({ ...options, host }, cause)))
      )
    )
  if (options.host !== undefined) return bindTo(options.host)
  // "::" is every address of both families; a machine without IPv6 does not know it
  return bindTo("::").pipe(
    Effect.catchIf(
      ({ cause }) => /EAFNOSUPPORT|EADDRNOTAVAIL|EINVAL/.test(String(cause)),
      () => bindTo("0.0.0.0")
    )
  )
}

/** How long the answers to calls that were cut have to reach their clients. */
const lastWords = Duration.millis(500)

const drain = Effect.fnUntraced(function* (server: Server, calls: GrpcCalls.GrpcCalls, address: Address.Address) {
  const { ended: before } = calls.counts()
  const timeout = yield* (yield* Drain).timeLeft
  const closed = yield* Deferred.make<void>()
  // GOAWAY on every connection, which ends with its last call; one that is still there in the end is destroyed. This comes
  // first, since a connection that tryShutdown has closed is none of drain's any more.
  server.drain(Address.format(address), Duration.toMillis(timeout) + Duration.toMillis(lastWords))
  // No new connections; it calls back when the last one has ended.
  server.tryShutdown(() => Deferred.doneUnsafe(closed, Effect.void))
  const isClosed = Deferred.isDone(closed)
  const awaitClosed = (atMost: Duration.Duration) =>
    Deferred.await(closed).pipe(Effect.interruptible, Effect.timeoutOption(atMost))
  yield* awaitClosed(timeout)
  const { ended, inFlight: cut } = calls.counts()
  if (!(yield* isClosed)) {
    calls.cut()
    yield* awaitClosed(Duration.times(lastWords, 2))
  }
  yield* Effect.logInfo(`gRPC is closed: ${ended - before} calls in flight finished, ${cut} were cut`)
})
