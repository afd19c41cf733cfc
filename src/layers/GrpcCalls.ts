/**
 * Where a call of grpc-js becomes a fiber and the fiber's exit becomes the answer; and the calls that are between the two.
 */
import { randomUUID } from "node:crypto"
import { constants, type ServerHttp2Stream } from "node:http2"
import type { Readable, Writable } from "node:stream"

import { NodeStream } from "@effect/platform-node"
import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type MethodDefinition,
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  ServerListenerBuilder,
  type StatusObject
} from "@grpc/grpc-js"
import { Cause, Context, Duration, Effect, Exit, type Fiber, Stream } from "effect"

import type { Admission, Candidate } from "./Admission.ts"
import { Deadline } from "./Deadline.ts"
import { RequestInfo, RetryInfo } from "./ErrorDetail.ts"
import { GrpcCall, type Peer } from "./GrpcCall.ts"
import type { Connection, ConnectionInfo } from "./GrpcConnections.ts"
import { kindOf } from "./GrpcService.ts"
import * as PeerIdentity from "./PeerIdentity.ts"
import * as Status from "./Status.ts"
import * as StatusWire from "./StatusWire.ts"
import { writeAll } from "./Writing.ts"

/** How the calls of one method are answered. */
export interface Method<E, R> {
  readonly definition: MethodDefinition<unknown, unknown>
  /** From a request, or a Stream of them, to an Effect of a response, or a Stream of them. */
  readonly handler: (request: never) => Effect.Effect<unknown, E, R> | Stream.Stream<unknown, E, R>
  readonly toStatus: (error: E) => Status.Status
  /** What handlers need, and the server's own log lines. */
  readonly context: Context.Context<Exclude<R, GrpcCall>>
  /** Never refused for load: a probe that is refused would take away a server that only has much to do. */
  readonly isExempt: boolean
}

/** The functions that grpc-js calls for methods of each kind; unary ones answer with the bytes of the response. */
type Handler =
  | { readonly kind: "unary"; readonly handle: handleUnaryCall<unknown, Buffer> }
  | { readonly kind: "serverStream"; readonly handle: handleServerStreamingCall<unknown, Buffer> }
  | { readonly kind: "clientStream"; readonly handle: handleClientStreamingCall<unknown, Buffer> }
  | { readonly kind: "bidi"; readonly handle: handleBidiStreamingCall<unknown, Buffer> }

/** Makes of the effect that answers a call another one. */
export type Interceptor = <A, E, R>(answer: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R | GrpcCall>

export interface Options {
  /** The first is the outermost. */
  readonly interceptors: ReadonlyArray<Interceptor>
  readonly admission: Admission
  readonly findConnection: (info: ConnectionInfo) => Connection | undefined
}

/** The calls that a server is answering. */
export interface GrpcCalls {
  readonly handle: <E, R>(method: Method<E, R>) => Handler
  /** Sees every call from its headers to its status. */
  readonly interceptor: ServerInterceptor
  /** How many calls have begun and not ended, and how many have ended, since the server is there. */
  readonly counts: () => { readonly inFlight: number; readonly ended: number }
  /** Interrupts the calls in flight, which are answered UNAVAILABLE. */
  readonly cut: () => void
}

type EncodedStatus = Pick<StatusObject, "code" | "details" | "metadata">

/** What the four kinds of grpc-js' calls have in common. */
interface Call {
  readonly metadata: Metadata
  readonly cancelled: boolean
  readonly getDeadline: () => Date | number
  readonly sendMetadata: (metadata: Metadata) => void
  readonly on: (event: "cancelled", listener: () => void) => unknown
}

/** What the status of a call needs besides what has become of its handler. */
interface Ending {
  readonly peer: Peer
  /** What the handler has added. */
  trailers: Metadata | undefined
  /** Whether the handler was interrupted at the deadline. */
  isLate: boolean
}

const nobody: Peer = { address: "unknown", names: [] }

/** A call that has begun and not ended. */
interface Open extends Candidate {
  readonly peer: Peer
  /** Answers it with a status, before a handler has it. */
  readonly end: (status: EncodedStatus) => void
  start: () => void
  /** What answers it, once a handler has it. */
  fiber?: Fiber.Fiber<unknown, unknown>
}

export const make = ({ admission, findConnection, interceptors }: Options): GrpcCalls => {
  const exempt = new Set<string>()
  // a call's metadata is the one thing that both an interceptor and a handler get
  const open = new Map<Metadata, Open>()
  const refusals = makeRefusals()
  let ended = 0
  let isCutting = false

  const onEnd = (metadata: Metadata) => {
    const call = open.get(metadata)
    if (call === undefined) return
    open.delete(metadata)
    ended++
    admission.leave(call)
  }

  // That there is a listener has an effect too: grpc-js then keeps back a message that comes after its call has ended.
  // Without, it would begin to handle a call that is over, and nothing would interrupt that.
  const interceptor: ServerInterceptor = ({ path, requestStream }, call) => {
    let key: Metadata | undefined
    const onOver = () => {
      if (key !== undefined) onEnd(key)
    }
    const onReceiveMetadata = (metadata: Metadata, next: (metadata: Metadata) => void) => {
      key = metadata
      const connection = findConnection(call.getConnectionInfo())
      const end = (status: EncodedStatus) => {
        onEnd(metadata)
        call.sendStatus(status)
      }
      const opened: Open = {
        peer: connection?.peer ?? nobody,
        end,
        start: () => {
          // a handler of one request begins when that is there
          if (!requestStream) admission.pause(opened)
          next(metadata)
        },
        refuse: () => end(refusals()),
        evict: () => streamOf(call).close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
      }
      open.set(metadata, opened)
      // a connection that is not known is one that has been closed
      if (connection?.isAllowed !== true) return end(notAllowed)
      if (exempt.has(path)) next(metadata)
      else admission.enter(opened)
    }
    const onReceiveHalfClose = (next: () => void) => {
      const opened = key === undefined ? undefined : open.get(key)
      if (opened === undefined || requestStream || exempt.has(path)) return next()
      opened.start = next
      admission.resume(opened)
    }
    return new ServerInterceptingCall(
      call,
      new ResponderBuilder()
        .withStart((next) =>
          next(
            new ServerListenerBuilder()
              .withOnReceiveMetadata(onReceiveMetadata)
              .withOnReceiveHalfClose(onReceiveHalfClose)
              .withOnCancel(onOver)
              .build()
          )
        )
        .withSendStatus((status, next) => {
          onOver()
          next(status)
        })
        .build()
    )
  }

  const handle = <E, R>(method: Method<E, R>): Handler => {
    const { context, definition, toStatus } = method
    const [, service = "", name = ""] = definition.path.split("/")
    const kind = kindOf(definition)
    if (method.isExempt) exempt.add(definition.path)

    /** Tells the log of a bug, and the client where in the log to look. */
    const report = (bug: Cause.Cause<unknown>, peer: Peer) => {
      const requestId = randomUUID()
      Effect.runForkWith(context)(
        Effect.logError("A bug in a handler", bug).pipe(
          Effect.annotateLogs({ method: definition.path.slice(1), requestId, ...PeerIdentity.annotations(peer) })
        )
      )
      return Status.internal("Internal error", { details: [RequestInfo({ requestId })] })
    }

    const statusOf = (cause: Cause.Cause<unknown>, { isLate, peer }: Ending) => {
      const failure = cause.reasons.find(Cause.isFailReason)
      if (failure !== undefined) return toStatus(failure.error as E)
      if (!Cause.hasInterruptsOnly(cause)) return report(cause, peer)
      if (isCutting) return shuttingDown
      return isLate ? Status.deadlineExceeded("Deadline exceeded") : Status.cancelled("Cancelled")
    }

    const encodeFailure = (cause: Cause.Cause<unknown>, ending: Ending): EncodedStatus => {
      const encode = () => {
        try {
          return StatusWire.encode(statusOf(cause, ending))
        } catch (bug) {
          // the status table threw, or made a status that cannot be encoded
          return StatusWire.encode(report(Cause.die(bug), ending.peer))
        }
      }
      const status = encode()
      const { trailers } = ending
      if (trailers === undefined) return status
      const metadata = trailers.clone()
      metadata.merge(status.metadata)
      return { ...status, metadata }
    }

    /** Runs what answers a call, and hands over what it came to, with the trailers that it has added. */
    const run = <A>(
      call: Call,
      answer: Effect.Effect<A, unknown, R>,
      end: {
        readonly succeed: (answer: A, trailers: Metadata | undefined) => void
        readonly fail: (status: EncodedStatus) => void
      }
    ) => {
      const { metadata } = call
      const opened = open.get(metadata)
      const ending: Ending = { peer: opened?.peer ?? nobody, trailers: undefined, isLate: false }
      const deadline = Number(call.getDeadline())
      const current = GrpcCall.of({
        service,
        method: name,
        kind,
        peer: ending.peer,
        deadline,
        metadata,
        sendMetadata: (headers) => Effect.sync(() => call.sendMetadata(headers)),
        addTrailers: (more) =>
          Effect.sync(() => {
            ending.trailers ??= new Metadata()
            ending.trailers.merge(more)
          })
      })
      const withCall = Context.add(context, GrpcCall, current)
      const services = deadline === Infinity ? withCall : Context.add(withCall, Deadline, deadline)
      // what a handler needs is in the context, but for the call, which is now
      const fiber = Effect.runForkWith(services as Context.Context<never> as Context.Context<R | GrpcCall>)(
        interceptors.reduceRight<Effect.Effect<A, unknown, R | GrpcCall>>(
          (inner, intercept) => intercept(inner),
          answer
        )
      )
      if (opened !== undefined) opened.fiber = fiber
      const onExit = (exit: Exit.Exit<A, unknown>) => {
        if (opened !== undefined) admission.pause(opened)
        if (Exit.isSuccess(exit)) end.succeed(exit.value, ending.trailers)
        else end.fail(encodeFailure(exit.cause, ending))
      }
      // most calls never wait for anything, and are done by now
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return onExit(exit)
      // the client has gone, or grpc-js has answered that the deadline is over: nobody reads a later answer
      call.on("cancelled", () => fiber.interruptUnsafe())
      const onDeadline = () => {
        ending.isLate = true
        fiber.interruptUnsafe()
      }
      const timer = definition.responseStream ? at(deadline, onDeadline) : undefined
      fiber.addObserver((exit) => {
        clearTimeout(timer)
        onExit(exit)
      })
    }

    // responses are encoded in the fiber, where what cannot be encoded is a defect like any other
    const encode = definition.responseSerialize

    const answerOne = (call: Call, request: unknown, callback: Parameters<handleUnaryCall<unknown, Buffer>>[1]) => {
      const response = Effect.suspend(() => method.handler(request as never) as Effect.Effect<unknown, E, R>)
      run(call, Effect.map(response, encode), {
        succeed: (bytes, trailers) => callback(null, bytes, trailers),
        fail: callback
      })
    }

    const answerMany = (call: Call & Writable & { end: (trailers?: Metadata) => void }, request: unknown) => {
      const responses = Stream.suspend(() => method.handler(request as never) as Stream.Stream<unknown, E, R>)
      const written = Stream.runForEachArray(responses, (messages) => writeAll(call, messages, encode))
      run(call, written, {
        succeed: (_, trailers) => {
          if (!call.cancelled) call.end(trailers)
        },
        fail: (status) => {
          // grpc-js takes it for the status, to be sent after the messages
          if (!call.cancelled) call.emit("error", status)
        }
      })
    }

    switch (kind) {
      case "unary":
        return { kind, handle: (call, callback) => answerOne(call, call.request, callback) }
      case "clientStream":
        return { kind, handle: (call, callback) => answerOne(call, messagesOf(call), callback) }
      case "serverStream":
        return { kind, handle: (call) => answerMany(call, call.request) }
      case "bidi":
        return { kind, handle: (call) => answerMany(call, messagesOf(call)) }
    }
  }

  return {
    handle,
    interceptor,
    counts: () => ({ inFlight: open.size, ended }),
    cut: () => {
      isCutting = true
      for (const { end, fiber } of open.values()) {
        if (fiber === undefined) end(StatusWire.encode(shuttingDown))
        else fiber.interruptUnsafe()
      }
    }
  }
}

/** grpc-js keeps the stream of a call to itself, and sends a status when the client takes it; there is no other way to be rid of it. */
const streamOf = (call: ServerInterceptingCallInterface): ServerHttp2Stream =>
  (call as unknown as { readonly stream: ServerHttp2Stream }).stream

/**
 * Does something at a deadline, by the clock of the machine. grpc-js does so too, but tells of it when its status is on its way,
 * which comes after the messages: with a client that does not take those, never.
 */
const at = (deadline: number, onDeadline: () => void): NodeJS.Timeout | undefined => {
  const timeLeft = deadline - Date.now()
  return timeLeft < maxTimeout ? setTimeout(onDeadline, timeLeft) : undefined
}

/** What Node's timers can wait, in milliseconds. */
const maxTimeout = 2 ** 31

/** The messages that a client sends. They end with it; when it goes away instead, the fiber that reads them is interrupted. */
const messagesOf = (call: Readable): Stream.Stream<unknown> =>
  NodeStream.fromReadable<unknown, "the client has gone">({
    evaluate: () => call,
    onError: () => "the client has gone",
    closeOnDone: false
  }).pipe(Stream.catch(() => Stream.never))

const shuttingDown = Status.unavailable("The server is shutting down")

const notAllowed = StatusWire.encode(Status.permissionDenied("This client may not call this server"))

/** How long refused clients are told to wait, in milliseconds: some more, some less, so that they do not all come back at once. */
const pushbacks = [50, 65, 80, 95, 110, 125, 140, 155]

/**
 * What calls above the limit are answered, in turn. A server that has too much to do should not spend its time on encoding
 * refusals, so they are encoded once.
 */
const makeRefusals = (): (() => EncodedStatus) => {
  let refusals: ReadonlyArray<EncodedStatus> | undefined
  let next = 0
  return () => {
    refusals ??= pushbacks.map((millis) => {
      const metadata = new Metadata()
      metadata.set("grpc-retry-pushback-ms", String(millis))
      return StatusWire.encode(
        Status.resourceExhausted("The server has too many calls to answer", {
          details: [RetryInfo({ retryDelay: Duration.millis(millis) })],
          metadata
        })
      )
    })
    return refusals[next++ % refusals.length]!
  }
}
