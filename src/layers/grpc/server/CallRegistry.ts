/**
 * The methods and the open calls of a server. Notifies interceptors of rejected streams, and cuts open calls in the drain.
 */
import type { IncomingHttpHeaders } from "node:http2"

import { Metadata, type Server } from "@grpc/grpc-js"
import { Cause, type Context, Effect, identity } from "effect"

import { LinkedList } from "../../collections/LinkedList.ts"
import * as LogRateLimiter from "../../telemetry/LogRateLimiter.ts"
import type { ServerInterceptor } from "../GrpcInterceptor.ts"
import * as Status from "../Status.ts"
import type { AdmissionControl } from "./AdmissionControl.ts"
import type { CallBudget } from "./CallBudget.ts"
import { CallContext, methodAt, MethodRunner, ServerInterceptorChain, unknownMethodAt } from "./MethodRunner.ts"
import * as Refusals from "./Refusals.ts"
import type { RegisteredMethod } from "./Registration.ts"
import type { ServedMethod, ServerCall, Shared } from "./ServerCall.ts"
import * as ServerMetrics from "./ServerMetrics.ts"
import type * as StreamGate from "./StreamGate.ts"

export interface Options {
  /** Interceptors of all calls; the first is the outermost. */
  readonly interceptors: ReadonlyArray<ServerInterceptor>
  readonly admission: AdmissionControl
  /** For methods that are exempt from `admission`. */
  readonly exemptAdmission: AdmissionControl
  readonly budget: CallBudget
  /** The largest message of a request, in bytes. */
  readonly maxRequestSize: number
  /** The largest message of a response, in bytes. */
  readonly maxResponseSize: number
  /** The context of interceptors for calls that reach no handler. */
  readonly context: Context.Context<never>
}

/** The largest request of an exempt method, such as the name of a service to watch. In bytes. */
const maxExemptRequestSize = 4 * 1024

export class CallRegistry implements Shared, StreamGate.Calls {
  readonly methods = new Map<string, ServedMethod>()
  entering: StreamGate.NewStream | undefined = undefined
  readonly budget: CallBudget
  readonly open = new LinkedList<ServerCall>()
  ended = 0
  readonly context: Context.Context<never>
  readonly #options: Options
  /** For streams of unknown methods. */
  readonly #interceptors: ServerInterceptorChain
  readonly #nextOverloaded = Refusals.makeOverloaded()

  constructor(options: Options) {
    this.budget = options.budget
    this.context = options.context
    this.#options = options
    this.#interceptors = new ServerInterceptorChain(options.interceptors)
  }

  /** Adds a method. Returns false if the path is taken. */
  register<E, R>(server: Server, method: RegisteredMethod<E, R>): boolean {
    const { admission, exemptAdmission, maxRequestSize, maxResponseSize } = this.#options
    const { kind, path, request } = method.definition
    const info = methodAt(path, kind)
    const interceptors = new ServerInterceptorChain([...this.#options.interceptors, ...method.interceptors])
    const { isExempt } = method
    this.methods.set(path, {
      info,
      interceptors,
      admission: isExempt ? exemptAdmission : admission,
      maxRequestSize: isExempt ? Math.min(maxExemptRequestSize, maxRequestSize) : maxRequestSize,
      runner: new MethodRunner(method, interceptors, maxResponseSize)
    })
    // grpc-js requires a handler and a serializer, but the runner calls the handler and encodes its response
    return server.register(path, () => {}, identity<Buffer>, request.decode, kind)
  }

  onRejectedStream({ connection, headers, stream }: StreamGate.NewStream, status: Status.Status | undefined): void {
    const path = headers[":path"] ?? ""
    const { info, interceptors } = this.methods.get(path) ?? {
      info: unknownMethodAt(path),
      interceptors: this.#interceptors
    }
    // without grpc-js, the stream may have been refused because of its headers, so they are not parsed
    const metadata = status === undefined ? metadataOf(headers) : new Metadata()
    const call = new CallContext(info, connection.peer, metadata, { sendMetadata: () => {} })
    // gRPC clients map HTTP 415 to UNKNOWN (doc/http-grpc-status-mapping.md)
    const sent = status ?? Refusals.sentBy(stream) ?? Status.unknown("The content type is not application/grpc")
    interceptors.runRejected(call, this.context, sent)
  }

  overloaded(): Refusals.Refusal {
    ServerMetrics.shed.updateUnsafe(1, this.context)
    return this.#nextOverloaded()
  }

  onException({ context: { name, peer } }: ServerCall, exception: unknown): void {
    const line = Effect.logError("Exception in a callback of a gRPC call", Cause.die(exception))
    const annotations = { method: name, peer: peer.address }
    Effect.runForkWith(this.context)(exceptions.log(Effect.annotateLogs(line, annotations)))
  }

  /** Fails open calls with UNAVAILABLE unless their response is being sent. */
  cut(): void {
    for (const call of this.open) call.cut()
  }
}

/** Empty if grpc-js cannot parse the headers. */
const metadataOf = (headers: IncomingHttpHeaders): Metadata => {
  try {
    return Metadata.fromHttp2Headers(headers)
  } catch {
    return new Metadata()
  }
}

const exceptions = LogRateLimiter.make("exceptions in callbacks of gRPC calls")
