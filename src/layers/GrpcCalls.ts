/**
 * Where a call of grpc-js becomes a fiber and the fiber's exit becomes the answer; and the calls that are between the two.
 */
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2"
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
  type ServerInterceptor as GrpcJsInterceptor,
  ServerListenerBuilder,
  type StatusObject
} from "@grpc/grpc-js"
import { Cause, Context, Duration, Effect, Exit, type Fiber, Metric, Stream } from "effect"

import type { Admission, Candidate } from "./Admission.ts"
import { Deadline } from "./Deadline.ts"
import { Encoded } from "./Encoded.ts"
import { RetryInfo } from "./ErrorDetail.ts"
import { GrpcCall, type Kind, type Peer, unknown } from "./GrpcCall.ts"
import type { Connection, ConnectionInfo } from "./GrpcConnections.ts"
import { cancelled, CurrentCall } from "./GrpcCurrentCall.ts"
import type { ServerInterceptor } from "./GrpcInterceptor.ts"
import { kindOf } from "./GrpcService.ts"
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

export interface Options {
  /** The first is the outermost. These see what becomes of a response that cannot be encoded, too. */
  readonly observers: ReadonlyArray<ServerInterceptor>
  /** Those within. */
  readonly interceptors: ReadonlyArray<ServerInterceptor>
  readonly admission: Admission
  readonly findConnection: (info: ConnectionInfo) => Connection | undefined
  /** One message of a response, in bytes. */
  readonly maxResponseSize: number
  /** What interceptors have when no handler gets the call. */
  readonly context: Context.Context<never>
}

/** The calls that a server is answering. */
export interface GrpcCalls {
  readonly handle: <E, R>(method: Method<E, R>) => Handler
  /** Sees the calls of methods that there are, from their headers to their status. */
  readonly interceptor: GrpcJsInterceptor
  /** To be told of every stream when grpc-js has been: it answers some of them before anybody else gets to know. */
  readonly onStream: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void
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

const nobody: Peer = { address: "unknown", names: [] }

/** A call that has begun and not ended. */
interface Open extends Candidate {
  readonly path: string
  readonly kind: Kind
  readonly peer: Peer
  readonly deadline: number
  readonly startedAt: number
  /** What HTTP/2 knows it as. */
  readonly stream: ServerHttp2Stream
  /** Answers it with a status, before a handler has it. */
  readonly end: (status: Refusal) => void
  start: () => void
  /** Whether interceptors see it, or have. */
  isSeen: boolean
  /** Whether it has lost its place. */
  isEvicted: boolean
  /** What answers it, once a handler has it. */
  current?: CurrentCall
  fiber?: Fiber.Fiber<unknown, unknown>
}

/** A status, with what it is on the wire. */
interface Refusal {
  readonly status: Status.Status
  readonly encoded: EncodedStatus
}

export const make = (options: Options): GrpcCalls => {
  const { admission, findConnection } = options
  const observe = compose(options.observers)
  const intercept = compose(options.interceptors)
  const interceptStream = composeStreams([...options.observers, ...options.interceptors])
  const methods = new Map<string, { readonly kind: Kind; readonly isExempt: boolean }>()
  // a call's metadata is the one thing that both an interceptor and a handler get
  const open = new Map<Metadata, Open>()
  const refusals = makeRefusals()
  let ended = 0
  let isCutting = false

  /** Lets interceptors see a call that no handler gets. */
  const see = (
    call: Pick<Open, "deadline" | "kind" | "path" | "peer" | "startedAt">,
    metadata: Metadata,
    status: Status.Status
  ) => {
    const current = new CurrentCall({
      ...namesOf(methods.has(call.path) ? call.path : `/${unknown}/${unknown}`),
      name: call.path.slice(1),
      kind: call.kind,
      peer: call.peer,
      deadline: call.deadline,
      metadata,
      startedAt: call.startedAt,
      isRejected: true,
      sendMetadata: () => Effect.void
    })
    const answer = observe(intercept(Effect.fail(status), current), current)
    Effect.runForkWith(Context.add(options.context, GrpcCall, current))(Effect.exit(answer))
  }

  const onEnd = (metadata: Metadata, status: (call: Open) => Status.Status) => {
    const call = open.get(metadata)
    if (call === undefined) return
    open.delete(metadata)
    ended++
    admission.leave(call)
    if (!call.isSeen) see(call, metadata, status(call))
  }

  // That there is a listener has an effect too: grpc-js then keeps back a message that comes after its call has ended.
  // Without, it would begin to handle a call that is over, and nothing would interrupt that.
  const interceptor: GrpcJsInterceptor = ({ path, requestStream, responseStream }, call) => {
    const startedAt = performance.now()
    const isExempt = methods.get(path)?.isExempt === true
    let key: Metadata | undefined
    const onOver = (status: (call: Open) => Status.Status) => {
      if (key !== undefined) onEnd(key, status)
    }
    const onReceiveMetadata = (metadata: Metadata, next: (metadata: Metadata) => void) => {
      key = metadata
      const connection = findConnection(call.getConnectionInfo())
      const end = ({ encoded, status }: Refusal) => {
        onEnd(metadata, () => status)
        call.sendStatus(encoded)
      }
      const stream = streamOf(call)
      const opened: Open = {
        path,
        kind: kindOf({ requestStream, responseStream }),
        peer: connection?.peer ?? nobody,
        deadline: Number(call.getDeadline()),
        startedAt,
        stream,
        isSeen: false,
        isEvicted: false,
        end,
        start: () => {
          // a handler of one request begins when that is there
          if (!requestStream) admission.pause(opened)
          next(metadata)
        },
        refuse: () => {
          shed.updateUnsafe(1, options.context)
          end(refusals())
        },
        evict: () => {
          opened.isEvicted = true
          stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
        }
      }
      open.set(metadata, opened)
      // a connection that is not known is one that has been closed
      if (connection?.isAllowed !== true) return end(notAllowed)
      if (isExempt) next(metadata)
      else admission.enter(opened)
    }
    const onReceiveHalfClose = (next: () => void) => {
      const opened = key === undefined ? undefined : open.get(key)
      if (opened === undefined) return next()
      if (requestStream) {
        // Node says that there are no more messages, also of a client that has gone, and only then that it has
        setImmediate(() => {
          if (!opened.stream.aborted && opened.stream.rstCode === constants.NGHTTP2_NO_ERROR) next()
        })
        return
      }
      if (isExempt) return next()
      opened.start = next
      admission.resume(opened)
    }
    const onCancel = () =>
      onOver(({ deadline, isEvicted, stream }) => (isEvicted ? evicted : (sentBy(stream) ?? whyGone(deadline))))
    return new ServerInterceptingCall(
      call,
      new ResponderBuilder()
        .withStart((next) =>
          next(
            new ServerListenerBuilder()
              .withOnReceiveMetadata(onReceiveMetadata)
              .withOnReceiveHalfClose(onReceiveHalfClose)
              .withOnCancel(onCancel)
              .build()
          )
        )
        .withSendStatus((status, next) => {
          onOver(() => Status.fromCode(status.code ?? 2, status.details ?? ""))
          next(status)
        })
        .build()
    )
  }

  const onStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const path = headers[":path"] ?? ""
    const isKnown = methods.has(path)
    const isGrpc = headers["content-type"]?.startsWith("application/grpc") === true
    if (isKnown && isGrpc) return
    const { localAddress, remoteAddress, remotePort } = stream.session?.socket ?? {}
    see(
      {
        path,
        kind: methods.get(path)?.kind ?? "unary",
        peer: findConnection({ localAddress, remoteAddress, remotePort })?.peer ?? nobody,
        deadline: Infinity,
        startedAt: performance.now()
      },
      metadataOf(headers),
      // what answers with HTTP's own status alone is UNKNOWN to gRPC (doc/http-grpc-status-mapping.md)
      sentBy(stream) ?? Status.unknown(`The content type is not application/grpc`)
    )
  }

  const handle = <E, R>(method: Method<E, R>): Handler => {
    const { context, definition, toStatus } = method
    const names = namesOf(definition.path)
    const kind = kindOf(definition)
    methods.set(definition.path, { kind, isExempt: method.isExempt })

    const encodeFailure = (exit: Exit.Exit<unknown, Status.Status>, current: CurrentCall): EncodedStatus => {
      const { trailers } = current
      try {
        const status = StatusWire.encode(current.statusOf(exit) ?? cancelled)
        if (trailers === undefined) return status
        const metadata = trailers.clone()
        metadata.merge(status.metadata)
        return { ...status, metadata }
      } catch (bug) {
        // a status with metadata that cannot be encoded; interceptors have seen it by now
        Effect.runForkWith(context)(
          Effect.logError("A bug in a handler", Cause.die(bug)).pipe(
            Effect.annotateLogs({ method: current.name, requestId: current.id })
          )
        )
        return StatusWire.encode(current.statusOf(Exit.die(bug)) ?? cancelled)
      }
    }

    /** Runs what answers a call, and hands over what it came to, with the trailers that it has added. */
    const run = <A>(
      call: Call,
      answer: (current: CurrentCall) => Effect.Effect<A, Status.Status, R>,
      end: {
        readonly succeed: (answer: A, trailers: Metadata | undefined) => void
        readonly fail: (status: EncodedStatus) => void
      }
    ) => {
      const { metadata } = call
      const opened = open.get(metadata)
      const deadline = Number(call.getDeadline())
      const current = new CurrentCall({
        ...names,
        name: definition.path.slice(1),
        kind,
        peer: opened?.peer ?? nobody,
        deadline,
        metadata,
        startedAt: opened?.startedAt ?? performance.now(),
        isRejected: false,
        sendMetadata: (headers) => Effect.sync(() => call.sendMetadata(headers))
      })
      const withCall = Context.add(context, GrpcCall, current)
      const services = deadline === Infinity ? withCall : Context.add(withCall, Deadline, deadline)
      if (opened !== undefined) {
        opened.isSeen = true
        opened.current = current
      }
      // what a handler needs is in the context, but for the call, which is now
      const fiber = Effect.runForkWith(services as Context.Context<never> as Context.Context<R | GrpcCall>)(
        observe(answer(current), current)
      )
      if (opened !== undefined) opened.fiber = fiber
      const onExit = (exit: Exit.Exit<A, Status.Status>) => {
        if (opened !== undefined) admission.pause(opened)
        if (Exit.isSuccess(exit)) end.succeed(exit.value, current.trailers)
        else end.fail(encodeFailure(exit, current))
      }
      // most calls never wait for anything, and are done by now
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return onExit(exit)
      const interrupt = (why: Status.Status) => {
        if (isCutting) return
        current.interruption = why
        fiber.interruptUnsafe()
      }
      // the client has gone, or grpc-js has answered by itself: nobody reads a later answer
      call.on("cancelled", () => {
        if (opened?.isEvicted === true) return interrupt(evicted)
        const sent = opened === undefined ? undefined : sentBy(opened.stream)
        // it does so when the deadline is over, and when it gets a message that it cannot read
        current.isRejected = sent !== undefined && sent._tag !== "DeadlineExceeded"
        interrupt(sent ?? whyGone(deadline))
      })
      const timer = definition.responseStream ? at(deadline, () => interrupt(late)) : undefined
      fiber.addObserver((exit) => {
        clearTimeout(timer)
        onExit(exit)
      })
    }

    // responses are encoded in the fiber, where what cannot be encoded is a defect like any other
    const encode = (response: unknown): Buffer => {
      const bytes = response instanceof Encoded ? response.bytes : definition.responseSerialize(response)
      // grpc-js would refuse it too, when everybody has been told that all is well
      if (bytes.length > options.maxResponseSize) throw new TooLarge(bytes.length, options.maxResponseSize)
      return bytes
    }
    const refuseLarge = Effect.catchDefect((defect: unknown) =>
      defect instanceof TooLarge ? Effect.fail(Status.resourceExhausted(defect.message)) : Effect.die(defect)
    )

    const answerOne = (call: Call, request: unknown, callback: Parameters<handleUnaryCall<unknown, Buffer>>[1]) => {
      const response = Effect.suspend(() => method.handler(request as never) as Effect.Effect<unknown, E, R>)
      const answer = (current: CurrentCall) => {
        const answered = Effect.mapError(response, (error) => toStatus(current.fail(error)))
        return refuseLarge(Effect.map(intercept(answered, current), encode))
      }
      run(call, answer, {
        succeed: (bytes, trailers) => callback(null, bytes, trailers),
        fail: callback
      })
    }

    const answerMany = (call: Call & Writable & { end: (trailers?: Metadata) => void }, request: unknown) => {
      const responses = Stream.suspend(() => method.handler(request as never) as Stream.Stream<unknown, E, R>)
      const answer = (current: CurrentCall) => {
        const answered = Stream.mapError(responses, (error) => toStatus(current.fail(error)))
        return intercept(
          refuseLarge(
            Stream.runForEachArray(interceptStream(answered, current), (messages) => writeAll(call, messages, encode))
          ),
          current
        )
      }
      run(call, answer, {
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
    onStream,
    counts: () => ({ inFlight: open.size, ended }),
    cut: () => {
      isCutting = true
      for (const { current, end, fiber } of open.values()) {
        if (fiber === undefined) end(shuttingDown)
        else {
          if (current !== undefined) current.interruption = shuttingDown.status
          fiber.interruptUnsafe()
        }
      }
    }
  }
}

/** A message of a response is larger than the server sends. */
class TooLarge extends Error {
  constructor(size: number, limit: number) {
    super(`The response has ${size} bytes, and ${limit} are the limit`)
  }
}

/** Calls that were refused since there were too many. */
export const shed = Metric.counter("grpc_server_calls_shed_total", {
  description: "Calls that were refused since there were too many",
  incremental: true
})

/** The two of "/service/method". */
const namesOf = (path: string) => {
  const [, service = "", method = ""] = path.split("/")
  return { service, method }
}

/** What interceptors do around an answer, all together; the first is the outermost. */
const compose = (interceptors: ReadonlyArray<ServerInterceptor>): Required<ServerInterceptor>["answer"] => {
  const all = interceptors.flatMap(({ answer }) => answer ?? [])
  // one that throws has died, which those around it see
  return (answer, call) => all.reduceRight((inner, intercept) => Effect.suspend(() => intercept(inner, call)), answer)
}

const composeStreams = (interceptors: ReadonlyArray<ServerInterceptor>): Required<ServerInterceptor>["stream"] => {
  const all = interceptors.flatMap(({ stream }) => stream ?? [])
  return (messages, call) =>
    all.reduceRight((inner, intercept) => Stream.suspend(() => intercept(inner, call)), messages)
}

/** The status that grpc-js has sent on a stream, in its trailers or, if there was no message, in its headers. */
const sentBy = ({ sentHeaders, sentTrailers }: ServerHttp2Stream): Status.Status | undefined => {
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
const whyGone = (deadline: number): Status.Status => (deadline - Date.now() <= underway ? late : cancelled)

/** In milliseconds. */
const underway = 50

/** Headers as grpc-js makes metadata of them; what it cannot make any of has none. */
const metadataOf = (headers: IncomingHttpHeaders): Metadata => {
  try {
    return Metadata.fromHttp2Headers(headers)
  } catch {
    return new Metadata()
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

const late = Status.deadlineExceeded("Deadline exceeded")

const evicted = Status.resourceExhausted("Its client has stopped, and others want its place")

const refusal = (status: Status.Status): Refusal => ({ status, encoded: StatusWire.encode(status) })

const shuttingDown = refusal(Status.unavailable("The server is shutting down"))

const notAllowed = refusal(Status.permissionDenied("This client may not call this server"))

/** How long refused clients are told to wait, in milliseconds: some more, some less, so that they do not all come back at once. */
const pushbacks = [50, 65, 80, 95, 110, 125, 140, 155]

/**
 * What calls above the limit are answered, in turn. A server that has too much to do should not spend its time on encoding
 * refusals, so they are encoded once.
 */
const makeRefusals = (): (() => Refusal) => {
  let refusals: ReadonlyArray<Refusal> | undefined
  let next = 0
  return () => {
    refusals ??= pushbacks.map((millis) => {
      const metadata = new Metadata()
      metadata.set("grpc-retry-pushback-ms", String(millis))
      return refusal(
        Status.resourceExhausted("The server has too many calls to answer", {
          details: [RetryInfo({ retryDelay: Duration.millis(millis) })],
          metadata
        })
      )
    })
    return refusals[next++ % refusals.length]!
  }
}
