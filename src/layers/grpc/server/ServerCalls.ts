/**
 * Runs the handler of each gRPC call in a fiber and turns the fiber's exit into the response. Keeps the calls in flight, for limits
 * and for the drain.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2"
import type { Readable, Writable } from "node:stream"

import { NodeStream } from "@effect/platform-node"
import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type ServerInterceptingCall,
  type ServerInterceptor as GrpcJsInterceptor
} from "@grpc/grpc-js"
import { Cause, Context, Duration, Effect, Exit, Metric, Stream } from "effect"

import { LinkedList } from "../../collections/LinkedList.ts"
import * as LogRateLimiter from "../../telemetry/LogRateLimiter.ts"
import { Deadline } from "../Deadline.ts"
import type { ServiceMethod } from "../EmbeddedProtos.ts"
import { Encoded } from "../EncodedMessage.ts"
import { RetryInfo } from "../ErrorDetail.ts"
import { GrpcCall, unknown } from "../GrpcCall.ts"
import type { ServerInterceptor } from "../GrpcInterceptor.ts"
import * as Status from "../Status.ts"
import * as StatusCodec from "../StatusCodec.ts"
import { writeAll } from "../Writing.ts"
import type { AdmissionControl } from "./AdmissionControl.ts"
import type { CallBudget } from "./CallBudget.ts"
import { type Called, type CalledMethod, cancelled, CurrentCall } from "./CallState.ts"
import { type Host, late, nobody, type Refusal, refusal, sentBy, ServerCall, type ServedMethod } from "./ServerCall.ts"
import type { Connection } from "./ServerConnections.ts"
import * as ServerInterceptorChain from "./ServerInterceptorChain.ts"

/** How the calls of one method are answered. */
export interface Method<E, R> {
  readonly definition: ServiceMethod
  /** From a request, or a Stream of them, to an Effect of a response, or a Stream of them. */
  readonly handler: (request: never) => Effect.Effect<unknown, E, R> | Stream.Stream<unknown, E, R>
  readonly toStatus: (error: E) => Status.Status
  /** What handlers need, and the server's own log lines. */
  readonly context: Context.Context<Exclude<R, GrpcCall>>
  /** Takes no slots of other methods: a probe that is refused would take away a server that only has much to do. */
  readonly isExempt: boolean
  /** Within those of all calls. */
  readonly interceptors: ReadonlyArray<ServerInterceptor>
}

/** The functions that grpc-js calls for methods of each kind; unary ones answer with the bytes of the response. */
type Handler =
  | { readonly kind: "unary"; readonly handle: handleUnaryCall<unknown, Buffer> }
  | { readonly kind: "serverStream"; readonly handle: handleServerStreamingCall<unknown, Buffer> }
  | { readonly kind: "clientStream"; readonly handle: handleClientStreamingCall<unknown, Buffer> }
  | { readonly kind: "bidi"; readonly handle: handleBidiStreamingCall<unknown, Buffer> }

export interface Options {
  /** Of all calls; the first is the outermost. */
  readonly interceptors: ReadonlyArray<ServerInterceptor>
  readonly admission: AdmissionControl
  /** For methods that are exempt from that. */
  readonly exemptAdmission: AdmissionControl
  readonly budget: CallBudget
  /** One message of a request, in bytes. */
  readonly maxRequestSize: number
  readonly connectionOf: (stream: ServerHttp2Stream) => Connection | undefined
  /** One message of a response, in bytes. */
  readonly maxResponseSize: number
  /** What interceptors have when no handler gets the call. */
  readonly context: Context.Context<never>
}

/** The calls that a server is answering. */
export interface ServerCalls {
  readonly handle: <E, R>(method: Method<E, R>) => Handler
  /** Follows the calls of registered methods from their headers to their status. */
  readonly interceptor: GrpcJsInterceptor
  /** To be told of every stream right before grpc-js is. */
  readonly onEntering: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void
  /** To be told of every stream when grpc-js has been: it answers some of them before anybody else gets to know. */
  readonly onStream: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void
  /** To be told of every stream that was answered with a status before grpc-js got it. */
  readonly onRefusedStream: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, status: Status.Status) => void
  /** How many calls have begun and not ended, and how many have ended, since the server is there. */
  readonly counts: () => { readonly inFlight: number; readonly ended: number }
  /** Interrupts the calls in flight, which are answered UNAVAILABLE. */
  readonly cut: () => void
}

/** What the kinds of grpc-js' calls that have a stream have in common. */
interface StreamCall {
  readonly metadata: Metadata
  readonly cancelled: boolean
}

export const make = (options: Options): ServerCalls => {
  const { connectionOf } = options
  const methods = new Map<string, ServedMethod>()
  /** For calls of methods that the server does not have. */
  const unknownMethods = ServerInterceptorChain.make(options.interceptors)
  const open = new LinkedList<ServerCall>()
  const refusals = makeRefusals()
  let ended = 0
  let isCutting = false
  let entering: ServerHttp2Stream | undefined
  let enteringEncoding: string | undefined

  /** Lets interceptors see a call that no handler gets. */
  const see = (path: string, called: Called, status: Status.Status) => {
    const method = methods.get(path)
    const { around, end, start } = method?.interceptors ?? unknownMethods
    const known = namesOf(method === undefined ? `/${unknown}/${unknown}` : path)
    const current = new CurrentCall({ ...known, name: path.slice(1), kind: method?.kind ?? "unary" }, called, true)
    const context = start(current, Context.add(options.context, GrpcCall, current))
    if (around === undefined) return end(current, Exit.fail(status), context)
    Effect.runForkWith(context)(around(Effect.fail(status), current)).addObserver((exit) => end(current, exit, context))
  }

  /**
   * Calls that have run in this turn of the event loop. Their slots are given back at its end: handlers that do not wait run one
   * after the other, so that they would never take a second slot, and a server that has more to do than it can would shed no call.
   */
  let leaving: Array<ServerCall> = []
  const leaveAll = () => {
    const calls = leaving
    leaving = []
    for (const call of calls) call.guard(() => call.method.admission.leave(call))
  }
  const leave = (call: ServerCall) => {
    const { admission } = call.method
    if (admission === options.exemptAdmission) return admission.leave(call)
    admission.finish(call)
    if (leaving.push(call) === 1) setImmediate(leaveAll)
  }

  const host: Host = {
    leave,
    budget: options.budget,
    connectionOf,
    open,
    onOver: () => {
      ended++
    },
    onBug: (call, bug) => {
      const line = Effect.logError("Exception in a callback of a gRPC call", Cause.die(bug)).pipe(
        Effect.annotateLogs({ method: call.method.path.slice(1), peer: call.peer.address })
      )
      Effect.runForkWith(options.context)(bugs.log(line))
    },
    see: (call, status) => see(call.method.path, call, status),
    refuse: () => {
      shed.updateUnsafe(1, options.context)
      return refusals()
    }
  }

  // the class that grpc-js has for it is one of several things that are such a call, and all that it uses is its interface
  const interceptor: GrpcJsInterceptor = ({ path }, call) =>
    new ServerCall(call, entering!, enteringEncoding, methods.get(path)!, host) as unknown as ServerInterceptingCall

  const onStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const path = headers[":path"] ?? ""
    const method = methods.get(path)
    const isGrpc = headers["content-type"]?.startsWith("application/grpc") === true
    if (method !== undefined && isGrpc) return
    seeStream(
      stream,
      path,
      metadataOf(headers),
      // what answers with HTTP's own status alone is UNKNOWN to gRPC (doc/http-grpc-status-mapping.md)
      sentBy(stream) ?? Status.unknown(`The content type is not application/grpc`)
    )
  }

  /** Lets interceptors see a stream that was answered without a call. */
  const seeStream = (stream: ServerHttp2Stream, path: string, metadata: Metadata, status: Status.Status) =>
    see(
      path,
      {
        peer: connectionOf(stream)?.peer ?? nobody,
        deadline: Infinity,
        startedAt: performance.now(),
        metadata,
        sendMetadata: () => {}
      },
      status
    )

  const handle = <E, R>(method: Method<E, R>): Handler => {
    const { context, definition, toStatus } = method
    const { kind } = definition
    const interceptors = ServerInterceptorChain.make([...options.interceptors, ...method.interceptors])
    const { around } = interceptors
    const called: CalledMethod = { ...namesOf(definition.path), name: definition.path.slice(1), kind }

    const encodeFailure = (
      exit: Exit.Exit<unknown, Status.Status>,
      current: CurrentCall
    ): StatusCodec.EncodedStatus => {
      const { trailers } = current
      try {
        const status = StatusCodec.encode(current.status(exit) ?? cancelled)
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
        return StatusCodec.encode(current.status(Exit.die(bug)) ?? cancelled)
      }
    }

    /** Runs what answers a call, and hands over what it came to, with the trailers that it has added. */
    const run = <A, F, B>(
      call: ServerCall,
      /** What is run, and what its exit is made into before anybody is told of it. */
      answer: (current: CurrentCall) => Effect.Effect<A, F, R>,
      settle: (current: CurrentCall, exit: Exit.Exit<A, F>) => Exit.Exit<B, Status.Status>,
      end: {
        readonly succeed: (answer: B, trailers: Metadata | undefined) => void
        readonly fail: (status: StatusCodec.EncodedStatus) => void
      }
    ) => {
      const { deadline } = call
      const current = new CurrentCall(called, call, false)
      const withCall = Context.add(context, GrpcCall, current)
      const services = interceptors.start(
        current,
        // what a handler needs is in the context, but for the call, which is now
        (deadline === Infinity ? withCall : Context.add(withCall, Deadline, deadline)) as Context.Context<never>
      )
      call.isSeen = true
      call.current = current
      const fiber = Effect.runForkWith(services as Context.Context<R>)(answer(current))
      call.fiber = fiber
      const onExit = (unsettled: Exit.Exit<A, F>) => {
        const exit = settle(current, unsettled)
        interceptors.end(current, exit, services)
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
      // the client has gone, or the call was answered without its handler: nobody reads a later answer
      call.onGone = (why, isRejected) => {
        current.isRejected = isRejected
        interrupt(why)
      }
      const timer =
        kind === "serverStream" || kind === "bidi" ? at(deadline, () => call.guard(() => interrupt(late))) : undefined
      fiber.addObserver((exit) => {
        call.onGone = undefined
        clearTimeout(timer)
        call.guard(() => onExit(exit))
      })
    }

    /** grpc-js would refuse what is too large, too, when everybody has been told that all is well. */
    const encode = (response: unknown): Buffer => {
      const bytes = response instanceof Encoded ? response.bytes : definition.response.encode(response as object)
      if (bytes.length > options.maxResponseSize) throw new TooLarge(bytes.length, options.maxResponseSize)
      return bytes
    }
    const refuseLarge = Effect.catchDefect((defect: unknown) =>
      defect instanceof TooLarge ? Effect.fail(Status.resourceExhausted(defect.message)) : Effect.die(defect)
    )
    const handler = (request: unknown) =>
      Effect.suspend(() => method.handler(request as never) as Effect.Effect<unknown, E, R>)

    /** The same, asked now: one step less, where nothing is around it. */
    const handlerNow = (request: unknown): Effect.Effect<unknown, E, R> => {
      try {
        return method.handler(request as never) as Effect.Effect<unknown, E, R>
      } catch (bug) {
        return Effect.die(bug)
      }
    }

    /** Interceptors with `around` see the status of a failure, and of a response that cannot be encoded. */
    const answerWithin = (
      wrap: NonNullable<typeof around>,
      current: CurrentCall,
      request: unknown
    ): Effect.Effect<Buffer, Status.Status, R> => {
      const answered = Effect.mapError(handler(request), (error) => toStatus(current.fail(error)))
      return wrap(refuseLarge(Effect.map(answered, encode)), current)
    }

    /** The same for where there are none, of the exit. What throws is a defect like any other. */
    const settle = (current: CurrentCall, exit: Exit.Exit<unknown, E>): Exit.Exit<Buffer, Status.Status> => {
      try {
        if (Exit.isSuccess(exit)) return Exit.succeed(encode(exit.value))
        return Exit.mapError(exit as Exit.Failure<never, E>, (error) => toStatus(current.fail(error)))
      } catch (defect) {
        return defect instanceof TooLarge ? Exit.fail(Status.resourceExhausted(defect.message)) : Exit.die(defect)
      }
    }

    const answerOne = (
      call: ServerCall,
      request: unknown,
      succeed: (message: Buffer, trailers: Metadata | undefined) => void
    ) => {
      const end = { succeed, fail: (status: StatusCodec.EncodedStatus) => call.fail(status) }
      if (around === undefined) run<unknown, E, Buffer>(call, () => handlerNow(request), settle, end)
      else
        run<Buffer, Status.Status, Buffer>(
          call,
          (current) => answerWithin(around, current, request),
          (_, exit) => exit,
          end
        )
    }

    const answerMany = (writable: StreamCall & Writable & { end: (trailers?: Metadata) => void }, request: unknown) => {
      const call = ServerCall.ofMetadata(writable.metadata)
      const responses = Stream.suspend(() => method.handler(request as never) as Stream.Stream<unknown, E, R>)
      const answer = (current: CurrentCall) => {
        const answered = Stream.mapError(responses, (error) => toStatus(current.fail(error)))
        const written = Stream.runForEachArray(interceptors.aroundStream(answered, current), (messages) =>
          writeAll(writable, messages, encode, call)
        )
        const sent = refuseLarge(written)
        return around === undefined ? sent : around(sent, current)
      }
      run(call, answer, (_, exit) => exit, {
        succeed: (_, trailers) => {
          call.onAnswered(0)
          if (!writable.cancelled) writable.end(trailers)
        },
        fail: (status) => {
          call.onAnswered(0)
          // grpc-js takes it for the status, to be sent after the messages
          if (!writable.cancelled) writable.emit("error", status)
        }
      })
    }

    const answer = (call: ServerCall, request: unknown) =>
      answerOne(call, request, (message, trailers) => call.answer(message, trailers))
    methods.set(definition.path, {
      path: definition.path,
      kind,
      interceptors,
      admission: method.isExempt ? options.exemptAdmission : options.admission,
      maxRequestSize: method.isExempt ? Math.min(maxExemptRequestSize, options.maxRequestSize) : options.maxRequestSize,
      answer: kind === "unary" ? answer : undefined
    })

    switch (kind) {
      case "unary":
        return { kind, handle: (_, callback) => callback(answeredAlready) }
      case "clientStream":
        return {
          kind,
          handle: (call, callback) =>
            answerOne(ServerCall.ofMetadata(call.metadata), messagesOf(call), (message, trailers) => {
              ServerCall.ofMetadata(call.metadata).onAnswered(message.length)
              callback(null, message, trailers)
            })
        }
      case "serverStream":
        return { kind, handle: (call) => answerMany(call, call.request) }
      case "bidi":
        return { kind, handle: (call) => answerMany(call, messagesOf(call)) }
    }
  }

  return {
    handle,
    interceptor,
    onEntering: (stream, headers) => {
      entering = stream
      enteringEncoding = headers["grpc-encoding"]?.toString()
    },
    onStream,
    // its headers may be why it was refused: they are not made into metadata
    onRefusedStream: (stream, headers, status) => seeStream(stream, headers[":path"] ?? "", new Metadata(), status),
    counts: () => ({ inFlight: open.size, ended }),
    cut: () => {
      isCutting = true
      for (const call of open) {
        // one that throws must not keep the others
        call.guard(() => {
          if (call.fiber === undefined) return call.end(shuttingDown)
          if (call.current !== undefined) call.current.interruption = shuttingDown.status
          call.fiber.interruptUnsafe()
        })
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

/** Splits "/service/method". */
const namesOf = (path: string) => {
  const [, service = "", method = ""] = path.split("/")
  return { service, method }
}

/** Headers as grpc-js makes metadata of them; what it cannot make any of has none. */
const metadataOf = (headers: IncomingHttpHeaders): Metadata => {
  try {
    return Metadata.fromHttp2Headers(headers)
  } catch {
    return new Metadata()
  }
}

/**
 * Does something at a deadline. grpc-js does so too, but tells of it when its status is on its way, which comes after the messages:
 * with a client that does not take those, never.
 */
const at = (deadline: number, onDeadline: () => void): NodeJS.Timeout | undefined =>
  deadline < Infinity ? setTimeout(onDeadline, Math.max(0, deadline - performance.now())) : undefined

/** The messages that a client sends. They end with it; when it goes away instead, the fiber that reads them is interrupted. */
const messagesOf = (call: Readable & StreamCall): Stream.Stream<unknown> => {
  const served = ServerCall.ofMetadata(call.metadata)
  return NodeStream.fromReadable<unknown, "the client has gone">({
    evaluate: () => call,
    onError: () => "the client has gone",
    closeOnDone: false
  }).pipe(
    Stream.map((message) => {
      served.onTaken()
      return message
    }),
    Stream.catch(() => Stream.never)
  )
}

const shuttingDown = refusal(Status.unavailable("The server is shutting down"))

/** Interceptors come before handlers, and {@link ServerCall} is one. */
const answeredAlready = { code: 13, details: "The call has been answered" }

/** One request of a method that is exempt from admission, such as the name of a service to be watched. In bytes. */
const maxExemptRequestSize = 4 * 1024

const bugs = LogRateLimiter.make("exceptions in callbacks of gRPC calls")

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
