/**
 * A call between a client and a handler in the same process: both ends of it, in place of grpc-js and a connection.
 *
 * Messages and metadata are copied on the way, so that neither side sees what the other one changes later. Messages of a stream are
 * handed over one at a time, when the writer has one and the reader wants one.
 */
import { Metadata } from "@grpc/grpc-js"
import { type Context, Effect, type Fiber } from "effect"

import type { Attempt } from "../grpc/client/CallMaker.ts"
import type { Peer } from "../grpc/GrpcCall.ts"
import {
  type AnsweredCall,
  CallContext,
  type MethodInfo,
  type SentStatus,
  type ServerInterceptorChain
} from "../grpc/server/MethodRunner.ts"
import * as Refusals from "../grpc/server/Refusals.ts"
import { RequestReader } from "../grpc/server/RequestReader.ts"
import { type ResponseSink, ResponseWriter } from "../grpc/server/ResponseWriter.ts"
import * as Status from "../grpc/Status.ts"
import * as StatusCodec from "../grpc/StatusCodec.ts"

/** A method, as a call in memory needs it. */
export interface InMemoryMethod {
  readonly info: MethodInfo
  readonly interceptors: ServerInterceptorChain
  /** Decodes a request; throws if the bytes are no such message. */
  readonly decode: (bytes: Uint8Array) => object
  /** Undefined if the server does not have the method. */
  readonly run: ((call: AnsweredCall, request: unknown) => void) | undefined
}

/** What all calls of a server have in common. */
export interface Shared {
  readonly peer: Peer
  /** The largest message of a request, in bytes. */
  readonly maxRequestSize: number
  /** The context of interceptors and log lines when no handler gets the call. */
  readonly context: Context.Context<never>
  /** The calls that have not ended. */
  readonly open: Set<InMemoryCall>
}

/** The client's end of a call. */
export interface Client {
  readonly onMessage: (message: Buffer) => void
  readonly onStatus: (status: StatusCodec.EncodedStatus) => void
}

/** Hands messages from a writer to a reader, each when both are ready. */
class Handover {
  readonly #deliver: (message: Buffer) => void
  #offered: { readonly message: Buffer; readonly onTaken: () => void } | undefined = undefined
  #isWanted = false

  constructor(deliver: (message: Buffer) => void) {
    this.#deliver = deliver
  }

  /** The next message; the one before has been taken. */
  offer(message: Buffer, onTaken: () => void): void {
    this.#offered = { message, onTaken }
    this.#flush()
  }

  /** The reader wants a message. */
  want(): void {
    this.#isWanted = true
    this.#flush()
  }

  #flush(): void {
    if (!this.#isWanted || this.#offered === undefined) return
    const { message, onTaken } = this.#offered
    this.#isWanted = false
    this.#offered = undefined
    this.#deliver(message)
    onTaken()
  }
}

export class InMemoryCall implements AnsweredCall, ResponseSink<SentStatus> {
  readonly context: CallContext

  readonly #method: InMemoryMethod
  readonly #shared: Shared
  readonly #attempt: Attempt
  readonly #client: Client
  readonly #requests: RequestReader | undefined
  readonly #responses: ResponseWriter<SentStatus> | undefined
  readonly #toServer = new Handover((message) => this.#onRequest(message))
  readonly #toClient = new Handover((message) => this.#onResponse(message))
  #hasSentHeaders = false
  #suspended: Fiber.Fiber<unknown, unknown> | undefined = undefined
  #timer: NodeJS.Timeout | undefined = undefined
  #hasEnded = false

  constructor(method: InMemoryMethod, attempt: Attempt, client: Client, shared: Shared) {
    this.context = new CallContext(method.info, shared.peer, attempt.call.metadata.clone(), this)
    this.context.deadline = Math.min(this.context.startedAt + attempt.timeout, attempt.deadline)
    this.#method = method
    this.#shared = shared
    this.#attempt = attempt
    this.#client = client
    const { kind } = attempt
    const hasRequestStream = kind === "clientStream" || kind === "bidi"
    this.#requests = hasRequestStream
      ? new RequestReader({ startRead: () => this.#toServer.want(), onTaken: () => {} })
      : undefined
    this.#responses = kind === "serverStream" || kind === "bidi" ? new ResponseWriter(this) : undefined
  }

  // the client's end

  /** Starts the call: with its request, or without one if it has a stream of them. */
  start(request?: Buffer): void {
    const { context, open } = this.#shared
    const { interceptors, run } = this.#method
    open.add(this)
    try {
      const decoded = request === undefined ? this.#requests!.stream : this.#decode(request)
      if (run === undefined) throw new Rejection(unimplemented(this.#attempt.call.definition.path))
      run(this, decoded)
    } catch (exception) {
      if (!(exception instanceof Rejection)) return this.crash(exception)
      interceptors.runRejected(this.context, context, exception.refusal.status)
      return this.#end(exception.refusal.encoded)
    }
    const { deadline } = this.context
    if (this.#hasEnded || deadline === Infinity) return
    const timeLeft = Math.max(0, deadline - performance.now())
    this.#timer = setTimeout(() => this.#abort(Refusals.deadlineExceeded, false), timeLeft)
  }

  /** Sends a message of a stream of requests; done when the handler has room for it. */
  sendRequest(message: Buffer): Effect.Effect<void> {
    return Effect.callback((resume) => this.#toServer.offer(message, () => resume(Effect.void)))
  }

  /** There are no more requests. */
  endRequests(): void {
    this.#requests?.end()
  }

  /** Asks for the next message of a stream of responses. */
  wantResponse(): void {
    this.#toClient.want()
  }

  cancel(): void {
    this.#abort(Refusals.statusOfReset(this.context.deadline), false)
  }

  getPeer(): string {
    return target
  }

  // the server's end

  onSuspended(fiber: Fiber.Fiber<unknown, unknown>): void {
    this.#suspended = fiber
  }

  sendMetadata(metadata: Metadata): void {
    if (this.#hasSentHeaders || this.#hasEnded) return
    this.#hasSentHeaders = true
    this.#attempt.call.onResponseMetadata?.({ headers: metadata.clone() })
  }

  write<Message>(messages: ReadonlyArray<Message>, encode: (message: Message) => Buffer): Effect.Effect<void> {
    return this.#responses!.write(messages, encode)
  }

  respond(message: Buffer | undefined, status: SentStatus): void {
    this.#suspended = undefined
    if (this.#responses !== undefined) return this.#responses.end(status)
    if (message !== undefined && !this.#hasEnded) this.#onResponse(message)
    this.sendStatus(status)
  }

  sendMessage(message: Buffer, onWritten: () => void): void {
    this.#toClient.offer(message, onWritten)
  }

  sendStatus({ code, details, metadata }: SentStatus): void {
    this.#end({ code, details, metadata: metadata?.clone() ?? new Metadata() })
  }

  onUnsent(): void {}

  setPaused(): void {}

  crash(exception: unknown): void {
    Effect.runForkWith(this.#shared.context)(Effect.logError("Exception in a gRPC call in memory", exception))
    this.#abort(Refusals.internalError, false)
  }

  /** The server closes. */
  cut(): void {
    this.#abort(Refusals.shuttingDown.status, false)
  }

  #decode(message: Buffer): object {
    const { maxRequestSize } = this.#shared
    if (message.length > maxRequestSize) throw new Rejection(Refusals.tooLarge(message.length, maxRequestSize))
    try {
      return this.#method.decode(message)
    } catch (error) {
      throw new Rejection(undecodable(error))
    }
  }

  #onRequest(message: Buffer): void {
    try {
      this.#requests?.push(this.#decode(message))
    } catch (exception) {
      if (exception instanceof Rejection) this.#abort(exception.refusal.status, true)
      else this.crash(exception)
    }
  }

  #onResponse(message: Buffer): void {
    this.sendMetadata(new Metadata())
    this.#client.onMessage(message)
  }

  /** Ends the call for its client, and interrupts its handler. */
  #abort(status: Status.Status, isRejected: boolean): void {
    if (this.#hasEnded) return
    this.#end(StatusCodec.encode(status))
    const fiber = this.#suspended
    if (fiber === undefined) return
    this.#suspended = undefined
    this.context.interruption = status
    this.context.isRejected = isRejected
    fiber.interruptUnsafe()
  }

  #end(status: StatusCodec.EncodedStatus): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    clearTimeout(this.#timer)
    this.#shared.open.delete(this)
    this.#attempt.call.onResponseMetadata?.({ trailers: status.metadata })
    this.#client.onStatus(status)
  }
}

/** The target of channels in memory, and the address of both peers. */
export const target = "in-memory"

/** Ends a call before its handler gets it, or a message of its stream. */
class Rejection {
  readonly refusal: Refusals.Refusal

  constructor(refusal: Refusals.Refusal) {
    this.refusal = refusal
  }
}

/** The texts are those of grpc-js. */
const unimplemented = (path: string) =>
  Refusals.refusal(Status.unimplemented(`The server does not implement the method ${path}`))

const undecodable = (error: unknown) =>
  Refusals.refusal(
    Status.internal(`Error deserializing request: ${error instanceof Error ? error.message : String(error)}`)
  )
