/**
 * A call of grpc-js while a server has it, from its headers to its status.
 *
 * It is what an interceptor of grpc-js is, without the builders and the class that those are usually made with: they cost four
 * closures, four objects and twenty function calls for each call of a client. And it answers calls of one request and one response
 * by itself, as interceptors may, so that grpc-js does not make a stream of Node's for each.
 */
import { constants, type ServerHttp2Stream } from "node:http2"

import type { Metadata, ServerInterceptingCallInterface } from "@grpc/grpc-js"
import type { Fiber } from "effect"

import type { Admission, Candidate } from "./Admission.ts"
import * as ClosedStreams from "./ClosedStreams.ts"
import * as Frame from "./Frame.ts"
import type { Kind, Peer } from "./GrpcCall.ts"
import type { Connection } from "./GrpcConnections.ts"
import { cancelled, type CurrentCall } from "./GrpcCurrentCall.ts"
import type { Linked, LinkedList } from "./LinkedList.ts"
import * as Status from "./Status.ts"
import type { EncodedStatus } from "./StatusWire.ts"
import * as UnaryAnswer from "./UnaryAnswer.ts"
import * as WholeMessage from "./WholeMessage.ts"

/** What is known of a method before there are calls. */
export interface ServedMethod {
  readonly path: string
  readonly kind: Kind
  /** Never refused for load. */
  readonly isExempt: boolean
  /** Answers a call of one request and one response; those with streams grpc-js gives to the handler that it has. */
  readonly answer: ((call: ServedCall, request: unknown) => void) | undefined
}

/** What all calls of a server have in common. */
export interface Host {
  readonly admission: Admission
  /** Undefined if it has been closed. */
  readonly connectionOf: (stream: ServerHttp2Stream) => Connection | undefined
  /** Those that have begun and not ended. */
  readonly open: LinkedList<ServedCall>
  /** Told of a call that is over. */
  readonly onOver: (call: ServedCall) => void
  /** Lets interceptors see a call that no handler gets. */
  readonly see: (call: ServedCall, status: Status.Status) => void
  /** What a call is answered that has no place. */
  readonly refuse: () => Refusal
  readonly notAllowed: Refusal
}

/** A status, with what it is on the wire. */
export interface Refusal {
  readonly status: Status.Status
  readonly encoded: EncodedStatus
}

type Listener = Parameters<ServerInterceptingCallInterface["start"]>[0]

type SentStatus = Parameters<ServerInterceptingCallInterface["sendStatus"]>[0]

/** The client on a connection that has been closed. */
export const nobody: Peer = { address: "unknown", names: [] }

const key = "onlinebooks/layers/ServedCall"

export class ServedCall implements ServerInterceptingCallInterface, Listener, Candidate, Linked<ServedCall> {
  previous: ServedCall | undefined = undefined
  next: ServedCall | undefined = undefined
  place: Candidate["place"] = undefined

  readonly method: ServedMethod
  /** When its headers came, by `performance.now()`. */
  readonly startedAt: number
  /** What HTTP/2 knows it as. */
  readonly stream: ServerHttp2Stream
  peer: Peer = nobody
  /** In milliseconds since 1970. */
  deadline = Infinity
  metadata!: Metadata
  /** Whether interceptors see it, or have. */
  isSeen = false
  /** What answers it, once a handler has it. */
  current: CurrentCall | undefined = undefined
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** Told that nobody waits for an answer any more; and what grpc-js has answered by itself, if it has. */
  onGone: ((why: Status.Status, sent: Status.Status | undefined) => void) | undefined = undefined

  readonly #host: Host
  readonly #inner: ServerInterceptingCallInterface
  #listener!: Listener
  #request: unknown = undefined
  #isComplete = false
  #isOver = false
  #isGone = false
  #isEvicted = false

  constructor(inner: ServerInterceptingCallInterface, method: ServedMethod, host: Host) {
    this.method = method
    this.startedAt = performance.now()
    this.stream = streamOf(inner)
    this.#host = host
    this.#inner = inner
    if (method.kind === "unary" || method.kind === "serverStream") WholeMessage.read(inner)
  }

  /** The call whose metadata that is: what the handlers of grpc-js get of it. */
  static readonly ofMetadata = (metadata: Metadata): ServedCall => metadata.getOpaque(key) as ServedCall

  start(listener: Listener): void {
    this.#listener = listener
    this.#inner.start(this)
  }

  onReceiveMetadata(metadata: Metadata): void {
    const { admission, connectionOf, notAllowed, open } = this.#host
    const connection = connectionOf(this.stream)
    this.metadata = metadata
    this.deadline = Number(this.#inner.getDeadline()) - Date.now() + performance.now()
    if (connection !== undefined) this.peer = connection.peer
    open.add(this)
    // a connection that is not known is one that has been closed
    if (connection?.isAllowed !== true) this.end(notAllowed)
    else if (this.method.isExempt) this.proceed()
    else admission.enter(this)
  }

  onReceiveMessage(message: unknown): void {
    // one that comes after its call has ended would be begun to be answered, and nothing would interrupt that
    if (this.#isGone) return
    this.#request = message
    // which refuses a second one
    this.#listener.onReceiveMessage(message)
  }

  onReceiveHalfClose(): void {
    if (this.#isGone) return
    const { isExempt, kind } = this.method
    if (kind === "clientStream" || kind === "bidi") {
      // Node says that there are no more messages, also of a client that has gone, and only then that it has
      setImmediate(() => {
        if (!this.stream.aborted && this.stream.rstCode === constants.NGHTTP2_NO_ERROR) {
          this.#listener.onReceiveHalfClose()
        }
      })
      return
    }
    this.#isComplete = true
    if (isExempt || this.#isOver) this.proceed()
    else this.#host.admission.resume(this)
  }

  onCancel(): void {
    this.#isGone = true
    // grpc-js says so after every answer, too
    const sent = this.isSeen && this.onGone === undefined ? undefined : sentBy(this.stream)
    const why = this.#isEvicted ? evicted : (sent ?? whyGone(this.deadline))
    this.#over(why)
    this.onGone?.(why, sent)
    this.#listener.onCancel()
    ClosedStreams.forget(this.stream)
  }

  proceed(): void {
    const { answer, kind } = this.method
    if (!this.#isComplete) {
      // a handler of one request begins when that is there
      if (kind === "unary" || kind === "serverStream") this.#host.admission.pause(this)
      if (answer === undefined) this.metadata.setOpaque(key, this)
      this.#listener.onReceiveMetadata(this.metadata)
    } else if (answer === undefined || this.#request === undefined) this.#listener.onReceiveHalfClose()
    else answer(this, this.#request)
  }

  refuse(): void {
    this.end(this.#host.refuse())
  }

  evict(): void {
    this.#isEvicted = true
    this.stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
  }

  /** Answers it with a status, before a handler has it. */
  end({ encoded, status }: Refusal): void {
    this.#over(status)
    this.#inner.sendStatus(encoded)
  }

  /** Answers it with one message, in its frame. It is over when that is on its way. */
  answer(frame: Buffer, trailers: Metadata | undefined): void {
    if (trailers === undefined && UnaryAnswer.isKnown(this.#inner)) {
      UnaryAnswer.send(this.#inner, this.stream, frame)
      return
    }
    this.#inner.sendMessage(Frame.messageOf(frame), ignore)
    // right behind it, and not when it is on its way, which would send them one by one
    this.#inner.sendStatus({ code: 0, details: "OK", metadata: trailers ?? null })
  }

  sendMetadata(metadata: Metadata): void {
    this.#inner.sendMetadata(metadata)
  }

  sendMessage(message: unknown, callback: () => void): void {
    this.#inner.sendMessage(message, callback)
  }

  sendStatus(status: SentStatus): void {
    if (!this.#isOver) this.#over(Status.fromCode(status.code, status.details))
    this.#inner.sendStatus(status)
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

  #over(status: Status.Status): void {
    if (this.#isOver) return
    this.#isOver = true
    const { admission, onOver, open, see } = this.#host
    open.remove(this)
    admission.leave(this)
    onOver(this)
    if (!this.isSeen) see(this, status)
  }
}

const ignore = () => {}

/** grpc-js keeps the stream of a call to itself, and sends a status when the client takes it; there is no other way to be rid of it. */
const streamOf = (call: ServerInterceptingCallInterface): ServerHttp2Stream =>
  (call as unknown as { readonly stream: ServerHttp2Stream }).stream

/** The status that grpc-js has sent on a stream, in its trailers or, if there was no message, in its headers. */
export const sentBy = ({ sentHeaders, sentTrailers }: ServerHttp2Stream): Status.Status | undefined => {
  // there are none of them until they are sent, whatever Node's types say
  const sent = { ...(sentHeaders as typeof sentHeaders | undefined), ...sentTrailers }
  const code = sent["grpc-status"]
  return code === undefined ? undefined : Status.fromCode(Number(code), decode(String(sent["grpc-message"] ?? "")))
}

/** A message as it was before it was put into a header. */
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

const evicted = Status.resourceExhausted("Its client has stopped, and others want its place")
