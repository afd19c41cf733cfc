/**
 * Runs the handler of a method for each of its calls: in a fiber, with the interceptors around it. The fiber's exit becomes the
 * response, or the status of the error.
 */
import type { Metadata } from "@grpc/grpc-js"
import { Cause, Context, Effect, Exit, type Fiber, Stream } from "effect"

import { Deadline } from "../Deadline.ts"
import { Encoded, type ServiceMethod } from "../EmbeddedProtos.ts"
import { GrpcCall } from "../GrpcCall.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"
import type { CallContext } from "./CallContext.ts"
import type { ServerInterceptorChain } from "./ServerInterceptorChain.ts"

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
