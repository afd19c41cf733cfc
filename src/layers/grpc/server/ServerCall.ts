/**
 * One call on the server, from its headers to its status. The methods are ordered as a call proceeds: headers, request message, slot,
 * handler, response, end.
 *
 * A method with one request message reads all of it before the call requests a slot ({@link AdmissionControl}). A method with a stream
 * of requests requests a slot at once, and its handler reads the stream. {@link CallBudget} counts the memory of the call before
 * anything is decoded.
 *
 * grpc-js reads and writes the HTTP/2 stream, and this class is the interceptor between it and the handler. grpc-js may end a call by
 * itself at any time, because of its deadline or of a message that it cannot decode: it then calls {@link ServerCall.onCancel} and ignores
 * anything sent afterwards.
 */
import { constants, type ServerHttp2Stream } from "node:http2"

import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor
} from "@grpc/grpc-js"
import type { Context, Effect, Fiber } from "effect"
import { constVoid } from "effect/Function"

import type { Linked, LinkedList } from "../../collections/LinkedList.ts"
import * as ClosedStreams from "../grpc-js/ClosedStreams.ts"
import * as MessageCompression from "../MessageCompression.ts"
import type * as Status from "../Status.ts"
import type { AdmissionControl, Candidate } from "./AdmissionControl.ts"
import type { BudgetedCall, CallBudget } from "./CallBudget.ts"
import {
  type AnsweredCall,
  CallContext,
  type MethodInfo,
  type SentStatus,
  type ServerInterceptorChain
} from "./MethodRunner.ts"
import * as Refusals from "./Refusals.ts"
import { RequestReader } from "./RequestReader.ts"
import { ResponseWriter } from "./ResponseWriter.ts"
import type { Connection, NewStream } from "./StreamGate.ts"

/** A registered method. */
export interface ServedMethod {
  readonly info: MethodInfo
  readonly interceptors: ServerInterceptorChain
  readonly admission: AdmissionControl
  /** The largest message of a request, in bytes. */
  readonly maxRequestSize: number
  /** Runs the handler with the request message, or with the Stream of them, and ends with {@link ServerCall.respond}. */
  readonly runner: { readonly run: (call: ServerCall, request: unknown) => void }
}

/** The state and functions that the calls of a server share. */
export interface Shared {
  /** By path. */
  readonly methods: ReadonlyMap<string, ServedMethod>
  /** The stream that is being passed to grpc-js. */
  entering: NewStream | undefined
  readonly budget: CallBudget
  /** The open calls. Calls add and remove themselves. */
  readonly open: LinkedList<ServerCall>
  /** How many calls have ended. */
  ended: number
  /** The context of interceptors for calls that reach no handler. */
  readonly context: Context.Context<never>
  /** The status of a call for which there is no slot or no memory. */
  readonly overloaded: () => Refusals.Refusal
  /** Logs an exception of a callback. */
  readonly onException: (call: ServerCall, exception: unknown) => void
}

/**
 * - receiving: the request message is not complete
 * - queued: the call waits for a slot
 * - running: its handler runs
 * - sending: its handler has finished, and the client has not read all of the response
 * - closed: nothing more is sent or received
 *
 * A call passes them in this order, from receiving if its method has one request message and from queued if it has a stream of them.
 * Every state may be followed by closed.
 */
type State = "receiving" | "queued" | "running" | "sending" | "closed"

type Listener = Parameters<ServerInterceptingCallInterface["start"]>[0]

/** The memory that a call takes besides its messages: objects of grpc-js and Node, and up to 16 KiB of headers. In bytes. */
const callOverhead = 16 * 1024

/** Buffers of HTTP/2 and Node for a stream of requests that its handler has not read yet, in bytes. */
const streamBuffer = 80 * 1024

/** The memory that a message of a stream takes besides its bytes, in bytes. */
const messageOverhead = 512

/** The largest compression ratio of DEFLATE. */
const maxInflation = 1032

export class ServerCall
  extends ServerInterceptingCall
  implements Listener, AnsweredCall, Candidate, BudgetedCall, Linked<ServerCall>
{
  previous: ServerCall | undefined = undefined
  next: ServerCall | undefined = undefined
  ticket: Candidate["ticket"] = undefined
  holding: BudgetedCall["holding"] = undefined

  readonly method: ServedMethod
  readonly stream: ServerHttp2Stream
  readonly client: string
  /** Set by {@link ServerCall.onReceiveMetadata}. */
  context!: CallContext

  readonly #peer: Connection["peer"]
  readonly #shared: Shared
  /** The call of grpc-js. */
  readonly #inner: ServerInterceptingCallInterface
  readonly #framing = new RequestFraming()
  /** The compressed flags of messages that are not decoded yet. Undefined if no message may be compressed. */
  readonly #compressed: Array<boolean> | undefined
  /** Undefined if the method has one response message. */
  readonly #responses: ResponseWriter<SentStatus> | undefined
  /** Undefined if the method has one request message. */
  readonly #requests: RequestReader | undefined
  #request: unknown = undefined
  /** The fiber of the handler if it has suspended. */
  #suspended: Fiber.Fiber<unknown, unknown> | undefined = undefined
  #deadlineTimer: NodeJS.Timeout | undefined = undefined
  #state: State

  /** Returns the interceptor of grpc-js that creates a {@link ServerCall} for each call of a registered method. */
  static interceptor(shared: Shared): ServerInterceptor {
    return ({ path }, inner) => {
      const entering = shared.entering!
      shared.entering = undefined
      return new ServerCall(inner, entering, shared.methods.get(path)!, shared)
    }
  }

  private constructor(
    inner: ServerInterceptingCallInterface,
    { connection, headers, stream }: NewStream,
    method: ServedMethod,
    shared: Shared
  ) {
    super(inner)
    this.method = method
    this.stream = stream
    this.client = connection.client
    this.#peer = connection.peer
    this.#shared = shared
    this.#inner = inner
    const encoding = headers["grpc-encoding"]
    this.#compressed = encoding === undefined || encoding === "identity" ? undefined : []
    const { kind } = method.info
    this.#requests = kind === "clientStream" || kind === "bidi" ? new RequestReader(this) : undefined
    this.#responses = kind === "serverStream" || kind === "bidi" ? new ResponseWriter(this) : undefined
    this.#state = this.#requests === undefined ? "receiving" : "queued"
  }

  /** Called by grpc-js. Its listener is ignored: it would invoke the no-op handler registered with grpc-js. */
  override start(): void {
    this.#inner.start(this)
  }

  /** Called during `start`, unless the client has reset the stream already; then no other callback follows. */
  onReceiveMetadata(metadata: Metadata): void {
    const context = new CallContext(this.method.info, this.#peer, metadata, this)
    this.context = context
    try {
      // before grpc-js' listener, which reads nothing from a stream that is closed here
      this.stream.prependListener("data", this.#onData)
      const { budget, open } = this.#shared
      open.add(this)
      const timeLeft = Number(this.#inner.getDeadline()) - Date.now()
      if (timeLeft < Infinity) context.deadline = context.startedAt + timeLeft
      const hasRequestStream = this.#requests !== undefined
      if (!budget.open(this, hasRequestStream ? callOverhead + streamBuffer : callOverhead)) {
        return this.reject(this.#shared.overloaded())
      }
      if (hasRequestStream) return this.method.admission.enter(this)
      budget.setWaiting(this, true)
      this.#inner.startRead()
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Checks and counts the messages of a request before grpc-js reads their bytes. */
  readonly #onData = (bytes: Buffer): void => {
    if (this.#state === "closed") return
    try {
      this.#framing.read(bytes, this)
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Called when a request message starts. */
  onMessagePrefix(length: number, flag: number): void {
    if (this.#state === "closed") return
    const { info, maxRequestSize } = this.method
    const isCompressed = flag === 1
    // grpc-js treats a message with another flag as uncompressed
    if (flag > 1 || (isCompressed && this.#compressed === undefined)) return this.reject(Refusals.wrongFlag)
    if (length > maxRequestSize) return this.reject(Refusals.tooLarge(length, maxRequestSize))
    this.#compressed?.push(isCompressed)
    const size = isCompressed ? Math.min(maxRequestSize, length * maxInflation) : length
    if (this.#requests === undefined) {
      if (this.#framing.messages > 1) return this.reject(Refusals.secondRequest(info.kind))
      return this.#shared.budget.add(this, size)
    }
    this.#requests.expect(size + messageOverhead)
    this.#shared.budget.add(this, size + messageOverhead)
  }

  onReceiveMessage(message: unknown): void {
    try {
      if (this.#compressed?.shift() === true) MessageCompression.markCompressed(message)
      if (this.#state === "running") return this.#requests?.push(message)
      if (this.#state !== "receiving") return
      this.#request = message
      this.#inner.startRead()
    } catch (exception) {
      this.crash(exception)
    }
  }

  onReceiveHalfClose(): void {
    try {
      if (this.#state === "running" || this.#framing.isWithinMessage) {
        // Node emits the end of a request before it reports that the client has cancelled it
        setImmediate(() => this.#onEndOfRequest())
        return
      }
      if (this.#state !== "receiving") return
      if (this.#request === undefined) return this.reject(Refusals.noRequest(this.method.info.kind))
      this.#state = "queued"
      this.#shared.budget.setWaiting(this, false)
      this.method.admission.enter(this)
    } catch (exception) {
      this.crash(exception)
    }
  }

  #onEndOfRequest(): void {
    try {
      if (this.stream.aborted || this.stream.rstCode !== constants.NGHTTP2_NO_ERROR) return
      // grpc-js ignores an incomplete message
      if (this.#framing.isWithinMessage && this.#state !== "closed") return this.reject(Refusals.cutShort)
      this.#requests?.end()
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Called when the handler has taken messages from the stream of requests, with their size in bytes. */
  onTaken(bytes: number): void {
    this.#shared.budget.add(this, -bytes)
  }

  /** Called when the call gets a slot: runs its handler. */
  run(): void {
    try {
      if (this.#state !== "queued") return
      this.#state = "running"
      this.method.runner.run(this, this.#requests === undefined ? this.#request : this.#requests.stream)
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Called when the call gets no slot. */
  shed(): void {
    try {
      this.reject(this.#shared.overloaded())
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Called when the handler suspends: it is interrupted if the call ends first. */
  onSuspended(fiber: Fiber.Fiber<unknown, unknown>): void {
    this.#suspended = fiber
    const { deadline } = this.context
    if (deadline === Infinity || this.#responses === undefined) return
    // grpc-js sends the status of an expired deadline after the messages, and a client that does not read them never gets it
    const timeLeft = Math.max(0, deadline - performance.now())
    this.#deadlineTimer = setTimeout(() => this.interrupt(Refusals.deadlineExceeded, false), timeLeft)
  }

  /** Interrupts the handler. The call ends with this status, unless the handler was interrupted before. */
  interrupt(status: Status.Status, isRejected: boolean): void {
    const fiber = this.#suspended
    if (fiber === undefined) return
    this.#suspended = undefined
    this.context.interruption = status
    this.context.isRejected = isRejected
    fiber.interruptUnsafe()
  }

  override sendMetadata(metadata: Metadata): void {
    try {
      this.#inner.sendMetadata(metadata)
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Sends messages of a stream of responses. */
  write<Message>(messages: ReadonlyArray<Message>, encode: (message: Message) => Buffer): Effect.Effect<void> {
    return this.#responses!.write(messages, encode)
  }

  /** Called when the bytes of a stream of responses that wait to be sent change, with the difference. */
  onUnsent(bytes: number): void {
    this.#shared.budget.add(this, bytes)
  }

  /** Called when the handler is blocked on a slow reader, and when it is resumed. */
  setPaused(isPaused: boolean): void {
    const { admission } = this.method
    if (isPaused) admission.pause(this)
    else admission.resume(this)
  }

  /** Sends the response of a finished handler, unless it is a stream, which has been sent already, and the status. */
  respond(message: Buffer | undefined, status: SentStatus): void {
    if (this.#state !== "running") return
    try {
      this.#state = "sending"
      this.#suspended = undefined
      clearTimeout(this.#deadlineTimer)
      this.method.admission.finish(this)
      this.#shared.budget.setWaiting(this, true)
      if (this.#responses !== undefined) return this.#responses.end(status)
      if (message !== undefined) {
        this.#shared.budget.add(this, message.length)
        this.#inner.sendMessage(message, constVoid)
      }
      // without waiting for the message to be written, to send both in one write
      this.#inner.sendStatus(status)
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Sends a message of a stream of responses. */
  override sendMessage(message: Buffer, onWritten: () => void): void {
    try {
      // grpc-js ends the stream when the deadline expires
      if (!this.stream.writableEnded) this.#inner.sendMessage(message, onWritten)
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Sends the status after a stream of responses. */
  override sendStatus(status: SentStatus): void {
    try {
      if (!this.stream.writableEnded) this.#inner.sendStatus(status)
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Ends the call with a status. Its handler is interrupted if it runs, and never started otherwise. */
  reject({ encoded, status }: Refusals.Refusal): void {
    // the status would wait until the client has read the messages before it, and the client would keep sending
    if (this.stream.headersSent) return this.#reset(status, constants.NGHTTP2_ENHANCE_YOUR_CALM)
    const isIncomplete = this.#state === "receiving" || this.#requests !== undefined
    this.#inner.sendStatus(encoded)
    this.#close(status, true)
    if (!isIncomplete) return
    // the client need not send the rest of the request (RFC 9113, section 8.1)
    setImmediate(() => {
      if (!this.stream.closed) this.stream.close(constants.NGHTTP2_NO_ERROR)
    })
  }

  /** Called when the call has stalled while the server was saturated. */
  evict(): void {
    try {
      this.#reset(Refusals.evicted, constants.NGHTTP2_ENHANCE_YOUR_CALM)
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Ends the call because the server closes, unless its response is being sent. */
  cut(): void {
    try {
      if (this.#state === "running") this.interrupt(Refusals.shuttingDown.status, false)
      else if (this.#state !== "sending") this.reject(Refusals.shuttingDown)
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Called when the stream has closed, or grpc-js has ended the call: after every response, and when the client cancels. */
  onCancel(): void {
    try {
      if (this.#state === "sending") this.#end()
      else {
        const sent = Refusals.sentBy(this.stream)
        const status = sent ?? Refusals.statusOfReset(this.context.deadline)
        this.#close(status, sent !== undefined && sent._tag !== "DeadlineExceeded")
      }
      ClosedStreams.releaseListeners(this.stream)
    } catch (exception) {
      this.crash(exception)
    }
  }

  /** Logs an exception of a callback and ends the call, since no caller would catch it. */
  crash(exception: unknown): void {
    this.#shared.onException(this, exception)
    try {
      this.#reset(Refusals.internalError, constants.NGHTTP2_INTERNAL_ERROR)
    } catch (next) {
      this.#shared.onException(this, next)
    }
  }

  /** Ends the call without a status. */
  #reset(why: Status.Status, code: number): void {
    this.#close(why, why !== Refusals.internalError)
    if (!this.stream.closed) this.stream.close(code)
  }

  #close(status: Status.Status, isRejected: boolean): void {
    const state = this.#state
    if (state === "closed") return
    this.#end()
    if (state === "receiving" || state === "queued") {
      this.method.interceptors.runRejected(this.context, this.#shared.context, status)
    } else this.interrupt(status, isRejected)
  }

  #end(): void {
    const { admission } = this.method
    const isQueued = this.#state === "queued"
    this.#state = "closed"
    if (isQueued) admission.leave(this)
    else admission.finish(this)
    clearTimeout(this.#deadlineTimer)
    this.#shared.budget.close(this)
    this.#shared.open.remove(this)
    this.#shared.ended++
  }
}

/** The compressed flag, and four bytes of length. */
const prefixSize = 5

/**
 * Parses the length-prefixed messages of a request (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) as their bytes
 * arrive, without copying them, so that the size of a message is checked before it is decoded.
 */
export class RequestFraming {
  /** How many messages have started. */
  messages = 0
  /** Whether a message is incomplete. */
  isWithinMessage = false
  #flag = 0
  #length = 0
  #prefixRead = 0
  /** The bytes of the current message that have not arrived yet. */
  #left = 0

  /** Reads the next bytes. Calls the observer when the prefix of a message is complete, with its length in bytes and its compressed flag. */
  read(bytes: Uint8Array, observer: { readonly onMessagePrefix: (length: number, flag: number) => void }): void {
    let at = 0
    while (at < bytes.length) {
      if (this.#left > 0) {
        const read = Math.min(this.#left, bytes.length - at)
        this.#left -= read
        at += read
        continue
      }
      const byte = bytes[at++]!
      if (this.#prefixRead === 0) {
        this.#flag = byte
        this.#length = 0
      } else this.#length = this.#length * 256 + byte
      if (++this.#prefixRead < prefixSize) continue
      this.#prefixRead = 0
      this.messages++
      this.#left = this.#length
      observer.onMessagePrefix(this.#length, this.#flag)
    }
    this.isWithinMessage = this.#left > 0 || this.#prefixRead > 0
  }
}
