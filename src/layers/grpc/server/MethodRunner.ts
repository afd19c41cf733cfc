/**
 * Runs the handler of a method for each of its calls: in a fiber, with the interceptors around it. The fiber's exit becomes the
 * response, or the status of the error.
 */
import { Cause, Context, Effect, Exit, identity, Stream } from "effect"

import { Deadline } from "../Deadline.ts"
import { Encoded } from "../EncodedMessage.ts"
import { GrpcCall } from "../GrpcCall.ts"
import type { ServerMethod } from "../GrpcService.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"
import { CallContext, type MethodInfo } from "./CallContext.ts"
import type { ServerCall } from "./ServerCall.ts"
import type { Around } from "./ServerInterceptorChain.ts"

/** How the calls of a method are answered. */
export interface Method<E, R> {
  readonly definition: ServerMethod
  /** From a request, or a Stream of them, to an Effect of a response, or a Stream of them. */
  readonly handler: (request: never) => Effect.Effect<unknown, E, R> | Stream.Stream<unknown, E, R>
  readonly toStatus: (error: E) => Status.Status
  /** The services of the handler but for {@link GrpcCall}, and of the server's own log lines. */
  readonly context: Context.Context<Exclude<R, GrpcCall>>
}

type Response<E, R> = Effect.Effect<unknown, E | Status.Status, R>

type ResponseExit = Exit.Exit<Buffer | void, Status.Status>

export class MethodRunner<E, R> {
  readonly #method: Method<E, R>
  readonly #info: MethodInfo
  readonly #around: Around
  readonly #observe: NonNullable<Around["observe"]>
  readonly #intercept: NonNullable<Around["intercept"]>
  /** Whether the exit of the handler becomes the response outside of the fiber, which costs less than an effect. */
  readonly #isPlain: boolean
  readonly #maxResponseSize: number

  constructor(
    method: Method<E, R>,
    info: MethodInfo,
    around: Around,
    /** The largest message of a response, in bytes. */
    maxResponseSize: number
  ) {
    this.#method = method
    this.#info = info
    this.#around = around
    this.#observe = around.observe ?? identity
    this.#intercept = around.intercept ?? identity
    this.#isPlain = !method.definition.responseStream && around.observe === undefined && around.intercept === undefined
    this.#maxResponseSize = maxResponseSize
  }

  run(call: ServerCall, request: unknown): void {
    const { deadline } = call
    const context = new CallContext(this.#info, call, false)
    const withCall = Context.add(this.#method.context, GrpcCall, context)
    const services = this.#around.begin(
      context,
      (deadline === Infinity ? withCall : Context.add(withCall, Deadline, deadline)) as Context.Context<never>
    )
    const fiber = Effect.runForkWith(services as Context.Context<R>)(this.#respond(call, context, request))
    // most handlers do not wait, and have finished
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return this.#complete(call, context, services, exit)
    call.onSuspended({ context, fiber })
    fiber.addObserver((exit) => {
      try {
        this.#complete(call, context, services, exit)
      } catch (exception) {
        call.crash(exception)
      }
    })
  }

  #respond(call: ServerCall, context: CallContext, request: unknown): Response<E, R> {
    if (this.#method.definition.responseStream) return this.#sendAll(call, context, request)
    if (!this.#isPlain) return this.#respondWithin(context, request)
    try {
      return this.#handle(request)
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  #handle(request: unknown): Effect.Effect<unknown, E, R> {
    return this.#method.handler(request as never) as Effect.Effect<unknown, E, R>
  }

  /** Encodes within the fiber, so that observers see whether the response could be encoded. */
  #respondWithin(context: CallContext, request: unknown): Effect.Effect<Buffer, Status.Status, R> {
    const response = Effect.mapError(
      Effect.suspend(() => this.#handle(request)),
      (error) => this.#method.toStatus(context.fail(error))
    )
    const encoded = Effect.map(this.#intercept(response, context), (response) => this.#encode(response))
    return this.#observe(Effect.catchDefect(encoded, exitOfDefect), context)
  }

  /** Sends all messages of a stream of responses. */
  #sendAll(call: ServerCall, context: CallContext, request: unknown): Effect.Effect<void, Status.Status, R> {
    const { handler, toStatus } = this.#method
    const encode = (response: unknown) => this.#encode(response)
    const responses = Stream.mapError(
      Stream.suspend(() => handler(request as never) as Stream.Stream<unknown, E, R>),
      (error) => toStatus(context.fail(error))
    )
    const sent = Stream.runForEachArray(this.#around.stream(responses, context), (messages) =>
      call.write(messages, encode)
    )
    return this.#observe(this.#intercept(Effect.catchDefect(sent, exitOfDefect), context), context)
  }

  #encode(response: unknown): Buffer {
    const bytes =
      response instanceof Encoded ? response.bytes : this.#method.definition.responseSerialize(response as object)
    // grpc-js checks it too, but only after interceptors have seen a success
    if (bytes.length > this.#maxResponseSize) throw new TooLarge(bytes.length, this.#maxResponseSize)
    return bytes
  }

  /** What {@link #respondWithin} does, to the exit of a handler. */
  #encodeExit(context: CallContext, exit: Exit.Exit<unknown, E>): ResponseExit {
    try {
      if (Exit.isSuccess(exit)) return Exit.succeed(this.#encode(exit.value))
      return Exit.mapError(exit as Exit.Failure<never, E>, (error) => this.#method.toStatus(context.fail(error)))
    } catch (defect) {
      return exitOfDefect(defect)
    }
  }

  #complete(
    call: ServerCall,
    context: CallContext,
    services: Context.Context<never>,
    handled: Exit.Exit<unknown, E | Status.Status>
  ): void {
    const exit = this.#isPlain ? this.#encodeExit(context, handled as Exit.Exit<unknown, E>) : (handled as ResponseExit)
    this.#around.end(context, exit, services)
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
      const line = Effect.logError("A bug in a handler", Cause.die(defect)).pipe(
        Effect.annotateLogs({ method: context.name, requestId: context.id })
      )
      Effect.runForkWith(this.#method.context)(line)
      return StatusCodec.encode(context.statusOfCause(Cause.die(defect)))
    }
  }
}

/** A message of a response is larger than the limit. */
class TooLarge extends Error {
  constructor(size: number, limit: number) {
    super(`The response has ${size} bytes, and ${limit} are the limit`)
  }
}

const exitOfDefect = (defect: unknown): Exit.Exit<never, Status.Status> =>
  defect instanceof TooLarge ? Exit.fail(Status.resourceExhausted(defect.message)) : Exit.die(defect)
