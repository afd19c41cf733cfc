/**
 * A gRPC client: a service becomes typed functions from a request to an Effect that fails with one {@link GrpcError}. Interrupting the
 * Effect cancels the call. Streams of messages are Streams, in either direction, with back-pressure.
 *
 * ```ts
 * const recommendations = yield* GrpcClient.make(RecommendationsService)
 * const { books } = yield* recommendations.Recommend({ maxResults: 3 }, { timeout: "800 millis" }).pipe(
 *   Effect.catchReason("GrpcError", "NotFound", (status) => ...)
 * )
 * ```
 *
 * The deadline of a call is the earlier of its own timeout and the deadline of the enclosing call: see {@link Deadline}. A request fails
 * with INVALID_ARGUMENT before anything is sent if a value does not fit its field type: see {@link MessageCodec.check}. Everything else
 * (retries, load balancing, interceptors) is handled by the channel: see {@link GrpcChannel}.
 */
import { Metadata } from "@grpc/grpc-js"
import { Context, Duration, Effect, Exit, Record, Stream } from "effect"

import * as EmbeddedProtos from "./EmbeddedProtos.ts"
import { Deadline } from "./GrpcCall.ts"
import { type Call, GrpcChannel, type Method, type ResponseMetadata } from "./GrpcChannel.ts"
import type { GrpcError } from "./GrpcError.ts"
import type * as GrpcService from "./GrpcService.ts"
import * as MessageCodec from "./MessageCodec.ts"
import * as Status from "./Status.ts"

/** The options of one call. */
export interface CallOptions {
  /** How long the call may take, with all its attempts; sent as grpc-timeout. */
  readonly timeout?: Duration.Input | undefined
  readonly metadata?: Metadata | undefined
  /** How much of the response of a unary call is decoded; the default is all of it. */
  readonly responseLimit?: MessageCodec.ResponseLimit | undefined
}

/** One function for each method of a service. */
export type GrpcClient<Methods> = {
  readonly [Name in keyof Methods]: Methods[Name] extends GrpcService.AnyMethod ? Caller<Methods[Name]> : never
}

type Caller<Method extends GrpcService.AnyMethod> = {
  readonly unary: (
    request: Method["requestIn"],
    options?: CallOptions
  ) => Effect.Effect<Method["responseOut"], GrpcError>
  readonly serverStream: (
    request: Method["requestIn"],
    options?: CallOptions
  ) => Stream.Stream<Method["responseOut"], GrpcError>
  readonly clientStream: <E, R>(
    requests: Stream.Stream<Method["requestIn"], E, R>,
    options?: CallOptions
  ) => Effect.Effect<Method["responseOut"], GrpcError | E, R>
  readonly bidi: <E, R>(
    requests: Stream.Stream<Method["requestIn"], E, R>,
    options?: CallOptions
  ) => Stream.Stream<Method["responseOut"], GrpcError | E, R>
}[Method["kind"]]

/**
 * Runs an effect with a deadline after a number of milliseconds, or with the current deadline if that is earlier. The effect is not
 * interrupted; gRPC calls inside fail with DEADLINE_EXCEEDED.
 */
export const withDeadline = <A, E, R>(effect: Effect.Effect<A, E, R>, millis: number): Effect.Effect<A, E, R> =>
  Effect.updateContext(effect, (context: Context.Context<R>) =>
    Context.add(context, Deadline, Math.min(Context.get(context, Deadline), performance.now() + millis))
  )

/** Metadata that is sent with every call made within an effect. */
export const RequestMetadata = Context.Reference<Metadata>("layers/grpc/GrpcClient/RequestMetadata", {
  defaultValue: () => new Metadata()
})

/** Called with the metadata of the responses to all calls made within an effect. */
const ResponseListener = Context.Reference<Call["onResponseMetadata"]>("layers/grpc/GrpcClient/ResponseListener", {
  defaultValue: () => undefined
})

/** Adds the metadata of the response to the result of an effect: of its last call, if it makes several. */
export const withResponseMetadata = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [A, ResponseMetadata], E, R> =>
  Effect.suspend(() => {
    let latest: ResponseMetadata = { headers: new Metadata(), trailers: new Metadata() }
    return effect.pipe(
      Effect.provideService(ResponseListener, (metadata) => {
        latest = { ...latest, ...metadata }
      }),
      Effect.map((value) => [value, latest] as const)
    )
  })

/** Makes the functions of a service, which use the channel in the context. */
export const make = Effect.fnUntraced(function* <Methods>(
  service: GrpcService.GrpcService<Methods>
): Effect.fn.Return<GrpcClient<Methods>, never, GrpcChannel> {
  const channel = yield* GrpcChannel
  // one function a method, with the types of the service
  return Record.map(EmbeddedProtos.methods(service), (method) =>
    callerOf(channel, methodOf(method))
  ) as unknown as GrpcClient<Methods>
})

const callerOf = (channel: GrpcChannel["Service"], method: Method) => {
  const { target } = channel
  const withCall = <A, E, R>(options: CallOptions | undefined, make: (call: Call) => Effect.Effect<A, E, R>) =>
    Effect.withFiber<A, E, R>(({ context }) => make(callIn(context, target, method, options)))
  switch (method.kind) {
    case "unary":
      // hot path: nearly all calls are unary
      return (request: object, options?: CallOptions) =>
        Effect.withFiber<object, GrpcError>(({ context }) =>
          channel.unary(callIn(context, target, method, options), request)
        )
    case "serverStream":
      return (request: object, options?: CallOptions) =>
        Stream.unwrap(withCall(options, (call) => Effect.succeed(channel.serverStream(call, request))))
    case "clientStream":
      return <E, R>(requests: Stream.Stream<object, E, R>, options?: CallOptions) =>
        withCall(options, (call) => channel.clientStream(call, requests))
    case "bidi":
      return <E, R>(requests: Stream.Stream<object, E, R>, options?: CallOptions) =>
        Stream.unwrap(withCall(options, (call) => Effect.succeed(channel.bidi(call, requests))))
  }
}

/** A call configured by its options and by the context. */
const callIn = (
  context: Context.Context<never>,
  target: string,
  definition: Method,
  options: CallOptions | undefined
): Call => {
  const startedAt = performance.now()
  const own = options?.timeout === undefined ? Infinity : startedAt + Duration.toMillis(options.timeout)
  const metadata = Context.get(context, RequestMetadata).clone()
  if (options?.metadata !== undefined) {
    metadata.merge(options.metadata)
    metadata.setOptions(options.metadata.getOptions())
  }
  return {
    service: definition.service,
    method: definition.name,
    kind: definition.kind,
    target,
    startedAt,
    deadline: Math.min(own, Context.get(context, Deadline)),
    metadata,
    definition,
    context,
    responseLimit: options?.responseLimit,
    onResponseMetadata: Context.get(context, ResponseListener)
  }
}

const methodOf = ({ isIdempotent, kind, path, request, response }: EmbeddedProtos.ServiceMethod): Method => {
  const [, service = "", name = ""] = path.split("/")
  const type = request.type()
  return {
    path,
    service,
    name,
    kind,
    isIdempotent,
    encode: (message) => {
      const violations = MessageCodec.check(type, message)
      if (violations.length > 0) return Exit.fail(Status.invalidArgument(violations))
      try {
        return Exit.succeed(request.encode(message))
      } catch (error) {
        return Exit.fail(Status.internal(`Request message serialization failure: ${String(error)}`))
      }
    },
    decode: response.decode
  }
}
