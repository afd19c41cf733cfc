/**
 * A gRPC server and a channel to it without sockets: calls take microseconds. It is for the tests of a service; use {@link EchoServer}
 * or a real server for what concerns connections.
 *
 * Calls pass what they pass over HTTP/2: the validation and the encoding of messages, metadata and trailers, interceptors and observers
 * of both sides, the handler, the table of its errors, deadlines and cancellation. There are no limits of load, no retries and no circuit
 * breaker. A layer of services and a client of them need no change:
 *
 * ```ts
 * it.effect("greets", () =>
 *   Effect.gen(function* () {
 *     const greeter = yield* GrpcClient.make(GreeterService)
 *     assert.strictEqual((yield* greeter.Greet({ name: "Ada" })).text, "Hello, Ada")
 *   }).pipe(Effect.provide(GreeterLive.pipe(InMemory.listen())))
 * )
 * ```
 *
 * Deadlines are in real time: tests of them are `it.live`.
 */
import { Context, Deferred, Effect, Exit, Layer, Stream, SubscriptionRef } from "effect"

import * as CallMaker from "../grpc/client/CallMaker.ts"
import type { ChannelInterceptors } from "../grpc/client/ChannelOptions.ts"
import * as Retry from "../grpc/client/Retry.ts"
import { undecodable } from "../grpc/client/UnaryCall.ts"
import type { Peer } from "../grpc/GrpcCall.ts"
import { GrpcChannel } from "../grpc/GrpcChannel.ts"
import type { ProvidedBy, ServerInterceptor } from "../grpc/GrpcInterceptor.ts"
import { defaultLimits, GrpcServer, type Limits, type Options as ServerOptions } from "../grpc/GrpcServer.ts"
import * as RetryPolicy from "../grpc/RetryPolicy.ts"
import { methodAt, MethodRunner, ServerInterceptorChain, unknownMethodAt } from "../grpc/server/MethodRunner.ts"
import * as Registration from "../grpc/server/Registration.ts"
import { RequestReader } from "../grpc/server/RequestReader.ts"
import * as Status from "../grpc/Status.ts"
import * as StatusCodec from "../grpc/StatusCodec.ts"
import { Drain } from "../process/Drain.ts"
import { type Client, InMemoryCall, type InMemoryMethod, type Shared, target } from "./InMemoryCall.ts"

export interface Options<
  out Interceptors extends ReadonlyArray<ServerInterceptor> = ReadonlyArray<ServerInterceptor>
> extends Pick<ServerOptions<Interceptors>, "interceptors" | "observers"> {
  readonly limits?: Partial<Pick<Limits, "maxRequestSize" | "maxResponseSize">> | undefined
  /** The caller, as handlers see it; the default has no certificate. */
  readonly peer?: Peer | undefined
  /** The interceptors of the channel. */
  readonly client?: ChannelInterceptors | undefined
}

/** Makes calls of the services, in place of `NodeGrpcServer.listen` and a channel to it. */
export const listen =
  <const Interceptors extends ReadonlyArray<ServerInterceptor>>(options: Options<Interceptors> = {}) =>
  <E, R>(
    services: Layer.Layer<never, E, R>
  ): Layer.Layer<GrpcServer | GrpcChannel, E, Exclude<R, GrpcServer | GrpcChannel | ProvidedBy<Interceptors>>> =>
    Layer.effectDiscard(Effect.flatMap(GrpcServer, ({ listen }) => listen)).pipe(
      Layer.provide(Drain.layerTest()),
      Layer.orDie,
      Layer.provide(services),
      Layer.provideMerge(layer(options))
    )

/** A server without services, and the channel to it. Services that are registered later can be called. */
export const layer = (options: Options = {}): Layer.Layer<GrpcServer | GrpcChannel> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const { open, server } = yield* makeServer(options)
      return Context.make(GrpcServer, server).pipe(Context.add(GrpcChannel, makeChannel(open, options)))
    })
  )

/** Opens a call of a method, which the client's end starts. */
type Open = (attempt: CallMaker.Attempt, client: Client) => InMemoryCall

const makeServer = Effect.fnUntraced(function* (options: Options) {
  const { maxRequestSize, maxResponseSize } = { ...defaultLimits, ...options.limits }
  const interceptors = Registration.interceptorsOf(options)
  const methods = new Map<string, InMemoryMethod>()
  const names = yield* SubscriptionRef.make<ReadonlyArray<string>>([])
  const leaving = yield* Deferred.make<void>()
  const shared: Shared = {
    peer: options.peer ?? { address: target, names: [] },
    maxRequestSize,
    context: Registration.annotatePeer(yield* Effect.context<never>()),
    open: new Set()
  }

  const add = <E, R>(method: Registration.RegisteredMethod<E, R>): boolean => {
    const { kind, path, request } = method.definition
    if (methods.has(path)) return false
    const info = methodAt(path, kind)
    const chain = new ServerInterceptorChain([...interceptors, ...method.interceptors])
    const runner = new MethodRunner(method, chain, maxResponseSize)
    methods.set(path, {
      info,
      interceptors: chain,
      decode: request.decode,
      run: (call, message) => runner.run(call, message)
    })
    return true
  }

  const open: Open = (attempt, client) => {
    const { path } = attempt.call.definition
    return new InMemoryCall(methods.get(path) ?? unknownMethod(path), attempt, client, shared)
  }
  const unknownMethods = new ServerInterceptorChain(interceptors)
  const unknownMethod = (path: string): InMemoryMethod => ({
    info: unknownMethodAt(path),
    interceptors: unknownMethods,
    decode: () => ({}),
    run: undefined
  })

  const close = Effect.gen(function* () {
    yield* Deferred.succeed(leaving, undefined)
    for (const call of shared.open) call.cut()
  })
  const address = { host: target, port: 0 }
  const server = GrpcServer.of({
    register: (registration) =>
      Effect.andThen(
        Registration.register(registration, interceptors, add),
        SubscriptionRef.update(names, (names) => [...names, registration.name])
      ),
    services: SubscriptionRef.get(names),
    serviceChanges: SubscriptionRef.changes(names),
    listen: Effect.acquireRelease(Effect.succeed(address), () => close),
    address: Effect.succeed(address),
    awaitLeaving: Deferred.await(leaving),
    load: Effect.sync(() => ({ answering: shared.open.size, waiting: 0, refused: 0 }))
  })
  return { open, server }
})

const makeChannel = (open: Open, { client = {} }: Options): GrpcChannel["Service"] => {
  const policy = RetryPolicy.never
  const retry = { policy, budget: new Retry.RetryBudget(policy), attemptTimeout: Infinity }
  const state: CallMaker.ServiceState = { circuit: (_call, make) => make(), retry, streamRetry: retry }
  return CallMaker.make({
    target,
    transport: makeTransport(open),
    makeServiceState: () => state,
    interceptors: client,
    observeCompression: false
  })
}

const makeTransport = (open: Open): CallMaker.Transport => {
  /** Starts a call that is answered once, and ends it with `resume`. */
  const startOne = (
    attempt: CallMaker.Attempt,
    request: Buffer | undefined,
    resume: (exit: Exit.Exit<object, Status.Status>) => void
  ): InMemoryCall => {
    let response: Buffer | undefined
    const call = open(attempt, {
      onMessage: (message) => {
        response = message
      },
      onStatus: (status) => resume(exitOf(attempt, response, status))
    })
    attempt.started = call
    call.start(request)
    return call
  }

  /** Starts a call that is answered with a Stream, until the scope closes. */
  const startMany = (attempt: CallMaker.Attempt, request?: Buffer) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        let end: Effect.Effect<void, Status.Status> = Effect.void
        const responses = new RequestReader({ startRead: () => call.wantResponse(), onTaken: () => {} })
        const call = open(attempt, {
          onMessage: (message) => {
            const decoded = decode(attempt, message)
            if (Exit.isSuccess(decoded)) return responses.push(decoded.value)
            end = Effect.asVoid(decoded)
            call.cancel()
          },
          onStatus: (status) => {
            if (status.code !== 0 && end === Effect.void) end = Effect.fail(StatusCodec.decode(status))
            responses.end()
          }
        })
        attempt.started = call
        call.start(request)
        const stream = Stream.concat(
          responses.stream as Stream.Stream<object>,
          Stream.fromEffectDrain(Effect.suspend(() => end))
        )
        return { call, stream }
      }),
      ({ call }) => Effect.sync(() => call.cancel())
    )

  return {
    unary: (attempt, request) =>
      Effect.callback((resume) => {
        const call = startOne(attempt, request, resume)
        return Effect.sync(() => call.cancel())
      }),
    serverStream: (attempt, request) => Effect.map(startMany(attempt, request), ({ stream }) => stream),
    clientStream: (attempt, requests) =>
      Effect.gen(function* () {
        const ended = yield* Deferred.make<object, Status.Status>()
        const call = yield* Effect.acquireRelease(
          Effect.sync(() => startOne(attempt, undefined, (exit) => Deferred.doneUnsafe(ended, exit))),
          (call) => Effect.sync(() => call.cancel())
        )
        return yield* Effect.raceFirst(
          Deferred.await(ended),
          Effect.andThen(sendAll(attempt, call, requests), Effect.never)
        )
      }).pipe(Effect.scoped),
    bidi: (attempt, requests) =>
      Effect.map(startMany(attempt), ({ call, stream }) =>
        Stream.merge(stream, Stream.fromEffectDrain(sendAll(attempt, call, requests)), { haltStrategy: "left" })
      )
  }
}

const sendAll = <E, R>(
  { call: { definition } }: CallMaker.Attempt,
  call: InMemoryCall,
  requests: Stream.Stream<object, E, R>
) =>
  requests.pipe(
    Stream.mapEffect((request) => definition.encode(request)),
    Stream.runForEach((message) => call.sendRequest(message)),
    Effect.andThen(Effect.sync(() => call.endRequests()))
  )

const exitOf = (
  attempt: CallMaker.Attempt,
  response: Buffer | undefined,
  status: StatusCodec.EncodedStatus
): Exit.Exit<object, Status.Status> => {
  if (status.code !== 0) return Exit.fail(StatusCodec.decode(status))
  return response === undefined ? Exit.fail(Status.unimplemented("No message received")) : decode(attempt, response)
}

const decode = (attempt: CallMaker.Attempt, response: Buffer): Exit.Exit<object, Status.Status> => {
  try {
    return Exit.succeed(attempt.decode(response))
  } catch (error) {
    return Exit.fail(undecodable(error))
  }
}
