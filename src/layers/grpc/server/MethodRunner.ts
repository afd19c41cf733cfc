/**
 * Runs the handler of a method for each of its calls: in a fiber, with the {@link CallContext} of the call, and with the interceptors
 * around it. The fiber's exit becomes the response, or the status of the error.
 */
import { randomUUID } from "node:crypto"

import { Metadata } from "@grpc/grpc-js"
import { Cause, Context, Effect, Exit, type Fiber, Stream } from "effect"

import type { ServiceMethod } from "../EmbeddedProtos.ts"
import { RequestInfo } from "../ErrorDetail.ts"
import { Deadline, GrpcCall, type Kind, otherLabel, type Peer } from "../GrpcCall.ts"
import type { ServerInterceptor } from "../GrpcInterceptor.ts"
import { InterceptorChain } from "../InterceptorChain.ts"
import { Encoded } from "../MessageCodec.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"

/** A method with its handler. */
export interface Method<E, R> {
  readonly definition: ServiceMethod
  /** From a request, or a Stream of them, to an Effect of a response, or a Stream of them. */
  readonly handler: (request: never) => Effect.Effect<unknown, E, R> | Stream.Stream<unknown, E, R>
  readonly toStatus: (error: E) => Status.Status
  /** The services of the handler except {@link GrpcCall}, and of the server's own log lines. */
  readonly context: Context.Context<Exclude<R, GrpcCall>>
}

/** A call that is passed to a handler: {@link ServerCall}, or a call in memory. */
export interface AnsweredCall {
  readonly context: CallContext
  /** Called when the handler suspends: its fiber must be interrupted if the call ends first. */
  readonly onSuspended: (fiber: Fiber.Fiber<unknown, unknown>) => void
  /** Sends messages of a stream of responses. */
  readonly write: <Message>(
    messages: ReadonlyArray<Message>,
    encode: (message: Message) => Buffer
  ) => Effect.Effect<void>
  /** Sends the response of a finished handler, undefined for a stream, which has been sent already, and the status. */
  readonly respond: (message: Buffer | undefined, status: SentStatus) => void
  /** Ends the call because of an exception in a callback. */
  readonly crash: (exception: unknown) => void
}

/** A status with code 0 is OK. */
export interface SentStatus {
  readonly code: number
  readonly details: string
  /** The trailers. */
  readonly metadata: Metadata | null
}

const isResponseStream = ({ kind }: ServiceMethod) => kind === "serverStream" || kind === "bidi"

type Response<E, R> = Effect.Effect<unknown, E | Status.Status, R>

type ResponseExit = Exit.Exit<Buffer | void, Status.Status>

export class MethodRunner<E, R> {
  readonly #method: Method<E, R>
  readonly #interceptors: ServerInterceptorChain
  /** In bytes. */
  readonly #maxResponseSize: number
  /** Whether the exit of the handler is encoded outside of the fiber, which costs less than an effect. */
  readonly #isPlain: boolean

  constructor(
    method: Method<E, R>,
    interceptors: ServerInterceptorChain,
    /** The largest message of a response, in bytes. */
    maxResponseSize: number
  ) {
    this.#method = method
    this.#interceptors = interceptors
    this.#maxResponseSize = maxResponseSize
    this.#isPlain = !isResponseStream(method.definition) && interceptors.around === undefined
  }

  run(call: AnsweredCall, request: unknown): void {
    const { context } = call
    const { deadline } = context
    const withCall = Context.add(this.#method.context, GrpcCall, context)
    const services = this.#interceptors.start(
      context,
      (deadline === Infinity ? withCall : Context.add(withCall, Deadline, deadline)) as Context.Context<never>
    )
    let response: Response<E, R>
    try {
      response = this.#isPlain
        ? (this.#method.handler(request as never) as Response<E, R>)
        : this.#respondWithin(call, request)
    } catch (defect) {
      response = Effect.die(defect)
    }
    const fiber = Effect.runForkWith(services as Context.Context<R>)(response)
    // most handlers do not suspend, and have finished
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return this.#complete(call, services, exit)
    call.onSuspended(fiber)
    fiber.addObserver((exit) => {
      try {
        this.#complete(call, services, exit)
      } catch (exception) {
        call.crash(exception)
      }
    })
  }

  /** Runs the handler and encodes its response in the fiber, so that interceptors see whether the response could be encoded. */
  #respondWithin(call: AnsweredCall, request: unknown): Response<E, R> {
    const { around } = this.#interceptors
    const response = isResponseStream(this.#method.definition)
      ? this.#sendStream(call, request)
      : this.#encodeResponse(call.context, request)
    const checked = Effect.catchDefect(response, exitOfDefect)
    return around === undefined ? checked : around(checked, call.context)
  }

  #encodeResponse(context: CallContext, request: unknown): Effect.Effect<Buffer, Status.Status, R> {
    const { handler, toStatus } = this.#method
    return Effect.suspend(() => handler(request as never) as Effect.Effect<unknown, E, R>).pipe(
      Effect.mapError((error) => toStatus(context.fail(error))),
      Effect.map((response) => this.#encode(response))
    )
  }

  #sendStream(call: AnsweredCall, request: unknown): Effect.Effect<void, Status.Status, R> {
    const { handler, toStatus } = this.#method
    const { context } = call
    const encode = (response: unknown) => this.#encode(response)
    return Stream.suspend(() => handler(request as never) as Stream.Stream<unknown, E, R>).pipe(
      Stream.mapError((error) => toStatus(context.fail(error))),
      (responses) => this.#interceptors.aroundStream(responses, context),
      Stream.runForEachArray((messages) => call.write(messages, encode))
    )
  }

  #encode(response: unknown): Buffer {
    const bytes =
      response instanceof Encoded ? response.bytes : this.#method.definition.response.encode(response as object)
    // grpc-js checks the size too, but only after interceptors have seen a success
    if (bytes.length > this.#maxResponseSize) throw new TooLarge(bytes.length, this.#maxResponseSize)
    return bytes
  }

  #complete(
    call: AnsweredCall,
    services: Context.Context<never>,
    handled: Exit.Exit<unknown, E | Status.Status>
  ): void {
    const { context } = call
    let exit = handled as ResponseExit
    if (this.#isPlain) {
      try {
        exit = Exit.isSuccess(handled)
          ? Exit.succeed(this.#encode(handled.value))
          : Exit.mapError(handled as Exit.Failure<never, E>, (error) => this.#method.toStatus(context.fail(error)))
      } catch (defect) {
        exit = exitOfDefect(defect)
      }
    }
    this.#interceptors.end(context, exit, services)
    if (Exit.isFailure(exit)) return call.respond(undefined, this.#encodeStatus(context, exit.cause))
    call.respond(exit.value ?? undefined, { code: 0, details: "OK", metadata: context.trailers ?? null })
  }

  #encodeStatus(context: CallContext, cause: Cause.Cause<Status.Status>): StatusCodec.EncodedStatus {
    const { trailers } = context
    try {
      const status = StatusCodec.encode(context.statusOfCause(cause))
      if (trailers === undefined) return status
      const metadata = trailers.clone()
      metadata.merge(status.metadata)
      return { ...status, metadata }
    } catch (defect) {
      // metadata of the status cannot be encoded; interceptors have seen the status already
      const line = Effect.logError("Unexpected error in a gRPC handler", Cause.die(defect)).pipe(
        Effect.annotateLogs({ method: context.name, requestId: context.id })
      )
      Effect.runForkWith(this.#method.context)(line)
      return StatusCodec.encode(context.statusOfCause(Cause.die(defect)))
    }
  }
}

/** A response message is larger than the limit. */
class TooLarge extends Error {
  constructor(size: number, limit: number) {
    super(`Response of ${size} bytes exceeds the limit of ${limit}`)
  }
}

const exitOfDefect = (defect: unknown): Exit.Exit<never, Status.Status> =>
  defect instanceof TooLarge ? Exit.fail(Status.resourceExhausted(defect.message)) : Exit.die(defect)

/** The names and the kind of a method. */
export type MethodInfo = Pick<GrpcCall["Service"], "kind" | "method" | "name" | "service">

/** A registered method, by its path "/package.Service/Method". */
export const methodAt = (path: string, kind: Kind): MethodInfo => {
  const [, service = "", method = ""] = path.split("/")
  return { service, method, name: path.slice(1), kind }
}

/** An unregistered method: its names are replaced, so that callers cannot create labels of metrics. */
export const unknownMethodAt = (path: string): MethodInfo => ({
  service: otherLabel,
  method: otherLabel,
  name: path.slice(1),
  kind: "unary"
})

/** What the handler and the interceptors of one call can read and send. Rarely used values are created lazily. */
export class CallContext implements Context.Service.Shape<typeof GrpcCall> {
  readonly service: string
  readonly method: string
  readonly kind: Kind
  readonly name: string
  readonly peer: Peer
  readonly metadata: Metadata
  readonly startedAt = performance.now()
  deadline = Infinity
  isRejected = false
  /** Added by the handler; sent with the status. */
  trailers: Metadata | undefined = undefined
  /** The status of a call whose handler is interrupted; CANCELLED if undefined. */
  interruption: Status.Status | undefined = undefined
  failure: unknown = undefined
  readonly #call: { readonly sendMetadata: (metadata: Metadata) => void }
  #id: string | undefined = undefined

  /** `call` sends initial metadata to the client. */
  constructor(
    { kind, method, name, service }: MethodInfo,
    peer: Peer,
    metadata: Metadata,
    call: { readonly sendMetadata: (metadata: Metadata) => void }
  ) {
    this.service = service
    this.method = method
    this.kind = kind
    this.name = name
    this.peer = peer
    this.metadata = metadata
    this.#call = call
  }

  get id(): string {
    this.#id ??= randomUUID()
    return this.#id
  }

  get sendMetadata(): GrpcCall["Service"]["sendMetadata"] {
    return (metadata) => Effect.sync(() => this.#call.sendMetadata(metadata))
  }

  get addTrailers(): GrpcCall["Service"]["addTrailers"] {
    return (more) =>
      Effect.sync(() => {
        this.trailers ??= new Metadata()
        this.trailers.merge(more)
      })
  }

  get statusOf(): GrpcCall["Service"]["statusOf"] {
    return (exit) => (Exit.isSuccess(exit) ? undefined : this.statusOfCause(exit.cause))
  }

  /** Remembers the error of the handler, and returns it. */
  fail<E>(error: E): E {
    this.failure = error
    return error
  }

  statusOfCause(cause: Cause.Cause<Status.Status>): Status.Status {
    // a cause with both is treated as a defect
    const failure = Cause.hasDies(cause) ? undefined : cause.reasons.find(Cause.isFailReason)
    if (failure !== undefined) return failure.error
    if (Cause.hasInterruptsOnly(cause)) return this.interruption ?? cancelled
    return Status.internal("Internal error", { details: [RequestInfo({ requestId: this.id })] })
  }
}

const cancelled = Status.cancelled("Cancelled")

/** The interceptors of the calls of a method. */
export class ServerInterceptorChain extends InterceptorChain<CallContext, Status.Status> {
  /** See {@link ServerInterceptor.aroundStream}. */
  readonly aroundStream: NonNullable<ServerInterceptor["aroundStream"]>

  constructor(interceptors: ReadonlyArray<ServerInterceptor>) {
    super(interceptors, ({ cause }, call) => call.statusOfCause(cause))
    const streams = interceptors.flatMap(({ aroundStream }) => aroundStream ?? [])
    this.aroundStream = (messages, call) =>
      streams.reduceRight((inner, wrap) => Stream.suspend(() => wrap(inner, call)), messages)
  }

  /**
   * Runs the interceptors for a call that reaches no handler, so that it has metrics, a log line and a span like any other call. It has
   * been answered with `status` already: a status that an interceptor returns is seen only by outer interceptors.
   */
  runRejected(call: CallContext, context: Context.Context<never>, status: Status.Status): void {
    call.isRejected = true
    const services = this.start(call, Context.add(context, GrpcCall, call))
    if (this.around === undefined) return this.end(call, Exit.fail(status), services)
    Effect.runForkWith(services)(this.around(Effect.fail(status), call)).addObserver((exit) =>
      this.end(call, exit, services)
    )
  }
}
