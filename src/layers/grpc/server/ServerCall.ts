/**
 * A call while a server has it, from its headers to its status: the server's end of grpc-js' interceptor interface.
 *
 * One request is read as a whole before it asks for a slot ({@link AdmissionControl}); a stream of requests asks at once, and is read by
 * its handler. What the call holds in memory is counted ({@link CallBudget}) before anything is decoded. grpc-js may end a call by
 * itself at any time (a deadline, a message that it cannot read): then {@link ServerCall.onCancel} is all that is heard of it, and
 * nothing more may be sent. Everything is sent through grpc-js, which ignores what comes after the end of a call.
 */
import { constants, type ServerHttp2Stream } from "node:http2"

import type { Metadata, ServerInterceptingCallInterface } from "@grpc/grpc-js"
import type { Fiber } from "effect"

import type { Linked, LinkedList } from "../../collections/LinkedList.ts"
import * as ClosedStreams from "../grpc-js/ClosedStreams.ts"
import type { Kind, Peer } from "../GrpcCall.ts"
import * as MessageCompression from "../MessageCompression.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"
import type { AdmissionControl, Candidate } from "./AdmissionControl.ts"
import type { CallBudget, Holder } from "./CallBudget.ts"
import { cancelled, type CurrentCall } from "./CallState.ts"
import { RequestFraming } from "./RequestFraming.ts"
import type { Connection } from "./ServerConnections.ts"
import type { ServerInterceptorChain } from "./ServerInterceptorChain.ts"

/** What is known of a method before there are calls. */
export interface ServedMethod {
  readonly path: string
  readonly kind: Kind
  readonly interceptors: ServerInterceptorChain
  readonly admission: AdmissionControl
  /** One message of a request, in bytes. */
  readonly maxRequestSize: number
  /** Answers a unary call; those with streams grpc-js gives to the handler that it has. */
  readonly answer: ((call: ServerCall, request: unknown) => void) | undefined
}

/** What all calls of a server have in common. */
export interface Host {
  readonly budget: CallBudget
  /** Undefined if it has been closed. */
  readonly connectionOf: (stream: ServerHttp2Stream) => Connection | undefined
  /** Those that have begun and not ended. */
  readonly open: LinkedList<ServerCall>
  /** Gives back the slot of a call that has run. */
  readonly leave: (call: ServerCall) => void
  /** Told of a call that is over. */
  readonly onOver: () => void
  /** Told of an exception in a callback of the call. */
  readonly onBug: (call: ServerCall, bug: unknown) => void
  /** Lets interceptors see a call that no handler gets. */
  readonly see: (call: ServerCall, status: Status.Status) => void
  /** What a call is answered for which there is no slot or no memory. */
  readonly refuse: () => Refusal
}

/** A status, with what it is on the wire. */
export interface Refusal {
  readonly status: Status.Status
  readonly encoded: StatusCodec.EncodedStatus
}

/**
 * - receiving: its one request is not complete
 * - queued: it asks for a slot
 * - running: its handler has it
 * - sending: its answer is made, and the client has to take it
 * - closed: nothing more is sent or received
 */
type State = "receiving" | "queued" | "running" | "sending" | "closed"

type Listener = Parameters<ServerInterceptingCallInterface["start"]>[0]

type SentStatus = Parameters<ServerInterceptingCallInterface["sendStatus"]>[0]

/** The client on a connection that has been closed. */
export const nobody: Peer = { address: "unknown", names: [] }

const key = "layers/grpc/server/ServerCall"

/** What a call takes up besides its messages: grpc-js' and Node's objects, and up to 16 KiB of headers. In bytes. */
const allowance = 16 * 1024

/** What HTTP/2 may receive of a stream of requests before its handler takes it (the window, and Node's mark), in bytes. */
const windowAllowance = 80 * 1024

/** What a message of a stream takes up besides its bytes, in bytes. */
const messageAllowance = 512

/** The most that DEFLATE can make of a byte. */
const maxInflation = 1032

export class ServerCall implements ServerInterceptingCallInterface, Listener, Candidate, Holder, Linked<ServerCall> {
  previous: ServerCall | undefined = undefined
  next: ServerCall | undefined = undefined
  ticket: Candidate["ticket"] = undefined
  holding: Holder["holding"] = undefined

  readonly method: ServedMethod
  /** When its headers came, by `performance.now()`. */
  readonly startedAt: number
  /** What HTTP/2 knows it as. */
  readonly stream: ServerHttp2Stream
  peer: Peer = nobody
  client = ""
  /** By `performance.now()`; infinite without one. */
  deadline = Infinity
  metadata!: Metadata
  /** Whether interceptors see it, or have. */
  isSeen = false
  /** What answers it, once a handler has it. */
  current: CurrentCall | undefined = undefined
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** Told that nobody waits for an answer any more, why, and whether the call was answered without its handler. */
  onGone: ((why: Status.Status, isRejected: boolean) => void) | undefined = undefined

  readonly #host: Host
  readonly #inner: ServerInterceptingCallInterface
  readonly #framing = new RequestFraming()
  /** 1 if its messages may be compressed. */
  readonly #maxFlag: 0 | 1
  #listener!: Listener
  #state: State
  #request: unknown = undefined
  /** Whether it is counted as over. */
  #isOver = false
  /** What the messages of a stream that its handler has not taken are counted with, in turn. */
  readonly #untaken: Array<number> = []
  /** How many messages have been received as a whole, and which of those to come are compressed, counted from 1. */
  #received = 0
  #compressed: Set<number> | undefined = undefined

  constructor(
    inner: ServerInterceptingCallInterface,
    stream: ServerHttp2Stream,
    /** What the client says that messages are compressed with. */
    encoding: string | undefined,
    method: ServedMethod,
    host: Host
  ) {
    this.method = method
    this.#maxFlag = encoding === undefined || encoding === "identity" ? 0 : 1
    this.startedAt = performance.now()
    this.stream = stream
    this.#host = host
    this.#inner = inner
    this.#state = this.#isStream ? "queued" : "receiving"
    // ahead of grpc-js, which reads nothing of a stream that has been closed
    stream.prependListener("data", (bytes: Buffer) => this.guard(() => this.#onData(bytes)))
  }

  /** The call whose metadata that is: what the handlers of grpc-js get of it. */
  static readonly ofMetadata = (metadata: Metadata): ServerCall => metadata.getOpaque(key) as ServerCall

  get #isStream(): boolean {
    return this.method.kind === "clientStream" || this.method.kind === "bidi"
  }

  start(listener: Listener): void {
    this.#listener = listener
    this.#inner.start(this)
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.guard(() => {
      const { budget, connectionOf, open, refuse } = this.#host
      const connection = connectionOf(this.stream)
      this.metadata = metadata
      const timeLeft = Number(this.#inner.getDeadline()) - Date.now()
      if (timeLeft < Infinity) this.deadline = this.startedAt + timeLeft
      open.add(this)
      // a connection that is not known is one that has been closed
      if (connection === undefined) return this.end(connectionClosed)
      this.peer = connection.peer
      this.client = connection.client
      if (!budget.open(this, allowance + (this.#isStream ? windowAllowance : 0))) return this.end(refuse())
      if (this.#isStream) return this.method.admission.enter(this)
      budget.wait(this)
      this.#inner.startRead()
    })
  }

  /** Counts what arrives before grpc-js reads it. */
  #onData(bytes: Buffer): void {
    if (this.#state === "closed") return
    const { kind, maxRequestSize } = this.method
    const framing = this.#framing
    framing.read(bytes, (length) => {
      if (this.#isOver) return
      // grpc-js would take it for a message that is not compressed
      if (framing.flag > this.#maxFlag) return this.end(wrongFlag)
      if (length > maxRequestSize) return this.end(tooLarge(length, maxRequestSize))
      if (!this.#isStream && framing.messages > 1) return this.end(secondRequest(kind))
      if (framing.isCompressed) (this.#compressed ??= new Set()).add(framing.messages)
      const size = framing.isCompressed ? Math.min(maxRequestSize, length * maxInflation) : length
      if (this.#isStream) this.#untaken.push(size + messageAllowance)
      this.#host.budget.add(this, size + (this.#isStream ? messageAllowance : 0))
    })
  }

  onReceiveMessage(message: unknown): void {
    this.guard(() => {
      if (this.#isNextCompressed()) MessageCompression.markCompressed(message)
      if (this.#state === "running") return this.#listener.onReceiveMessage(message)
      if (this.#state !== "receiving") return
      this.#request = message
      this.#inner.startRead()
    })
  }

  onReceiveHalfClose(): void {
    this.guard(() => {
      if (this.#state === "running" || this.#framing.isWithinMessage) return this.#endOfStream()
      if (this.#state !== "receiving") return
      if (this.#request === undefined) return this.end(noRequest(this.method.kind))
      this.#state = "queued"
      this.#host.budget.resume(this)
      this.method.admission.enter(this)
    })
  }

  /** Node says that there are no more messages, also of a client that has gone, and only then that it has. */
  #endOfStream(): void {
    setImmediate(() =>
      this.guard(() => {
        if (this.stream.aborted || this.stream.rstCode !== constants.NGHTTP2_NO_ERROR) return
        // grpc-js would take what has come for all there is
        if (this.#framing.isWithinMessage && this.#state !== "closed") return this.end(cutShort)
        this.#listener.onReceiveHalfClose()
      })
    )
  }

  /** It has a slot: gives it to its handler. */
  run(): void {
    this.guard(() => {
      if (this.#state !== "queued") return
      this.#state = "running"
      const { answer, kind } = this.method
      if (answer !== undefined) return answer(this, this.#request)
      this.metadata.setOpaque(key, this)
      this.#listener.onReceiveMetadata(this.metadata)
      if (kind !== "serverStream") return
      this.#listener.onReceiveMessage(this.#request)
      this.#listener.onReceiveHalfClose()
    })
  }

  shed(): void {
    this.guard(() => this.end(this.#host.refuse()))
  }

  /** It has waited for its client for too long while others want what it holds. */
  evict(): void {
    this.guard(() => this.#abort(evicted, constants.NGHTTP2_ENHANCE_YOUR_CALM))
  }

  /** Its handler has taken the next message of the request. */
  onTaken(): void {
    const size = this.#untaken.shift()
    if (size !== undefined) this.#host.budget.add(this, -size)
  }

  /** Its handler waits for the client to read, or does not any more. */
  onWaiting(isWaiting: boolean): void {
    const { admission } = this.method
    if (isWaiting) admission.pause(this)
    else admission.resume(this)
  }

  /** So many bytes of its answer are underway, or no longer if negative. */
  onUnsent(bytes: number): void {
    this.#host.budget.add(this, bytes)
  }

  /** Answers it with a status, without a handler. */
  end({ encoded, status }: Refusal): void {
    // trailers would come after all that its client has still to read, and the request would go on until then
    if (this.stream.headersSent) return this.#abort(status, constants.NGHTTP2_ENHANCE_YOUR_CALM)
    const isPartial = this.#state === "receiving" || this.#isStream
    this.#over(status)
    this.#state = "closed"
    this.#inner.sendStatus(encoded)
    if (isPartial) this.#stopReceiving()
  }

  /** Resets the stream once its status is on its way, since the rest of the request is of no use (RFC 9113, section 8.1). */
  #stopReceiving(): void {
    setImmediate(() =>
      this.guard(() => {
        if (!this.stream.closed) this.stream.close(constants.NGHTTP2_NO_ERROR)
      })
    )
  }

  /** Answers it with one message. It is over when the client has taken it. */
  answer(message: Buffer, trailers: Metadata | undefined): void {
    this.guard(() => {
      this.onAnswered(message.length)
      this.#inner.sendMessage(message, ignore)
      // right behind it, and not when it is on its way, which would send them one by one
      this.#inner.sendStatus({ code: 0, details: "OK", metadata: trailers ?? null })
    })
  }

  /** Answers it with a status, by its handler. */
  fail(status: StatusCodec.EncodedStatus): void {
    this.guard(() => this.sendStatus(status))
  }

  sendMetadata(metadata: Metadata): void {
    this.guard(() => this.#inner.sendMetadata(metadata))
  }

  sendMessage(message: Buffer, callback: () => void): void {
    this.guard(() => this.#inner.sendMessage(message, () => this.guard(callback)))
  }

  sendStatus(status: SentStatus): void {
    this.guard(() => {
      if (!this.#isOver) this.#over(Status.fromCode(status.code ?? 2, status.details ?? ""))
      this.onAnswered(0)
      this.#inner.sendStatus(status)
    })
  }

  onCancel(): void {
    this.guard(() => {
      // grpc-js says so after every answer, too
      const sent = this.isSeen && this.onGone === undefined ? undefined : sentBy(this.stream)
      this.#close(sent ?? whyGone(this.deadline), sent !== undefined && sent._tag !== "DeadlineExceeded")
      this.#listener.onCancel()
      ClosedStreams.forget(this.stream)
    })
  }

  startRead(): void {
    this.#inner.startRead()
  }

  getPeer() {
    return this.#inner.getPeer()
  }

  getDeadline() {
    return this.#inner.getDeadline()
  }

  getHost() {
    return this.#inner.getHost()
  }

  getAuthContext() {
    return this.#inner.getAuthContext()
  }

  getConnectionInfo() {
    return this.#inner.getConnectionInfo()
  }

  getMetricsRecorder() {
    return this.#inner.getMetricsRecorder()
  }

  /**
   * Its handler is done: its slot is free, and what it holds is what its client has not read, with so many bytes more. grpc-js sends
   * the status of a call with streams only after the client has taken the messages, which may be never.
   */
  onAnswered(bytes: number): void {
    if (this.#state === "closed") return
    const { budget } = this.#host
    this.#state = "sending"
    this.#leave()
    budget.wait(this)
    if (bytes > 0) budget.add(this, bytes)
  }

  /** Ends it without an answer. */
  #abort(why: Status.Status, code: number): void {
    this.#close(why, why !== bugged)
    if (!this.stream.closed) this.stream.close(code)
  }

  #isNextCompressed(): boolean {
    this.#received++
    return this.#compressed?.delete(this.#received) === true
  }

  /** Nothing more is sent or received. */
  #close(why: Status.Status, isRejected: boolean): void {
    this.#over(why)
    this.#state = "closed"
    this.#host.budget.close(this)
    const { onGone } = this
    this.onGone = undefined
    onGone?.(why, isRejected)
  }

  /** Gives back its slot, or its place in the queue. */
  #leave(): void {
    if (this.ticket === undefined) return
    if (this.#state === "queued") this.method.admission.leave(this)
    else this.#host.leave(this)
  }

  /** Counts it as over, once. */
  #over(status: Status.Status): void {
    if (this.#isOver) return
    this.#isOver = true
    const { onOver, open, see } = this.#host
    open.remove(this)
    this.#leave()
    onOver()
    if (!this.isSeen) see(this, status)
  }

  /**
   * Runs what grpc-js, Node or a fiber calls: what it throws would be an uncaught exception. It is logged instead, and the call ends.
   */
  guard(callback: () => void): void {
    try {
      callback()
    } catch (bug) {
      this.#host.onBug(this, bug)
      try {
        this.#abort(bugged, constants.NGHTTP2_INTERNAL_ERROR)
      } catch (next) {
        this.#host.onBug(this, next)
      }
    }
  }
}

const ignore = () => {}

/** The status that grpc-js has sent on a stream, in its trailers or, if there was no message, in its headers. */
export const sentBy = ({ sentHeaders, sentTrailers }: ServerHttp2Stream): Status.Status | undefined => {
  // there are none of them until they are sent, whatever Node's types say
  const sent = { ...(sentHeaders as typeof sentHeaders | undefined), ...sentTrailers }
  const code = sent["grpc-status"]
  return code === undefined ? undefined : Status.fromCode(Number(code), decode(String(sent["grpc-message"] ?? "")))
}

/** A message as it was before grpc-js put it into a header. */
const decode = (message: string): string => {
  try {
    return decodeURI(message)
  } catch {
    return message
  }
}

/**
 * Why a call is over that its client has reset. Who gives up in time does so when its own clock says that the deadline is over,
 * which is a little earlier than the server's does: by as long as its headers were on their way.
 */
const whyGone = (deadline: number): Status.Status => (deadline - performance.now() <= underway ? late : cancelled)

/** In milliseconds. */
const underway = 50

/** What a call is answered whose deadline is over. */
export const late = Status.deadlineExceeded("Deadline exceeded")

const evicted = Status.resourceExhausted(
  "Evicted: the call waited for its client while others wanted its memory or its slot"
)

/** A status that does not change is encoded once. */
export const refusal = (status: Status.Status): Refusal => ({ status, encoded: StatusCodec.encode(status) })

const wrongFlag = refusal(Status.internal("Received a message whose compressed flag does not agree with its encoding"))

const cutShort = refusal(Status.internal("The request ended within a message"))

const connectionClosed = refusal(Status.unavailable("The connection has been closed"))

const bugged = Status.internal("Internal error")

/** As grpc-js words it. */
const tooLarge = (length: number, limit: number) =>
  refusal(Status.resourceExhausted(`Received message larger than max (${length} vs ${limit})`))

const methodKinds: { readonly [K in Kind]: string } = {
  unary: "unary",
  serverStream: "server streaming",
  clientStream: "client streaming",
  bidi: "bidirectional streaming"
}

const secondRequest = (kind: Kind) =>
  refusal(Status.unimplemented(`Received a second request message for a ${methodKinds[kind]} method`))

const noRequest = (kind: Kind) =>
  refusal(Status.unimplemented(`Received no request message for a ${methodKinds[kind]} method`))
