/**
 * Interceptors: cross-cutting behaviour of calls, on servers and on clients, for every method.
 *
 * An interceptor has any of two hooks and one wrapper:
 *
 * - `onStart` runs before the call and may change its context
 * - `onEnd` runs when the call has ended, with its exit and its status
 * - `around` wraps the Effect that answers or makes the call; it may short-circuit, delay, or provide a service
 *
 * Interceptors that only have hooks run outside the fiber of the call, so that observers cost little. An exception in a hook is logged
 * and does not affect the call; one in `around` is a defect of the call.
 *
 * Lists of interceptors are ordered from the outermost to the innermost: `[first, second]` starts `first`, starts `second`, runs
 * the call, ends `second` and ends `first`.
 *
 * ```ts
 * const countStatuses: ServerInterceptor = {
 *   onEnd: (call, _exit, status) => void counts.add(`${call.method} ${status?._tag ?? "OK"}`)
 * }
 *
 * const authenticate: ServerInterceptor = {
 *   around: (answer, { metadata }) =>
 *     metadata.get("authorization").length > 0 ? answer : Effect.fail(Status.unauthenticated("Token missing"))
 * }
 * ```
 *
 * Tracing, metrics and the access log, which also reports unexpected errors, are interceptors too: see {@link DefaultObservers}.
 */
import type { Metadata } from "@grpc/grpc-js"
import { Cause, type Context, Effect, Exit, type Stream } from "effect"

import type { GrpcCall, Kind } from "./GrpcCall.ts"
import { GrpcError } from "./GrpcError.ts"
import * as Status from "./Status.ts"

/** The hooks of an interceptor. `Failure` is the error of a call. */
export interface Hooks<in Call, in Failure> {
  /** Runs before the call; returns the context to run it in, or nothing to leave the context as it is. */
  readonly onStart?: (call: Call, context: Context.Context<never>) => Context.Context<never> | undefined | void
  /**
   * Runs when the call has ended. The status is undefined if it ended with OK. The context is the one that `onStart` returned. An
   * Effect that is returned runs in the background.
   */
  readonly onEnd?: (
    call: Call,
    exit: Exit.Exit<unknown, Failure>,
    status: Status.Status | undefined,
    context: Context.Context<never>
  ) => Effect.Effect<void> | void
}

/** A call as interceptors of servers see it. */
export type ServerCall = GrpcCall["Service"]

/**
 * An interceptor of the calls that a server answers.
 *
 * It runs exactly once for every call, including those that reach no handler (refused, of an unknown method, or with a message that does
 * not decode). Their exit is the status that has been sent already, and a change of it is only seen by outer interceptors.
 */
export interface ServerInterceptor extends Hooks<ServerCall, Status.Status> {
  /**
   * Wraps the Effect that answers a call; for a method that answers with a Stream, the Effect that sends all of it. Errors of handlers
   * are already mapped to statuses. {@link GrpcCall.statusOf} returns the status of an exit.
   */
  readonly around?: <A, R>(
    answer: Effect.Effect<A, Status.Status, R>,
    call: ServerCall
  ) => Effect.Effect<A, Status.Status, R>
  /** Wraps the Stream of responses. A message that the handler has encoded is an {@link MessageCodec.Encoded}. */
  readonly aroundStream?: <A, R>(
    messages: Stream.Stream<A, Status.Status, R>,
    call: ServerCall
  ) => Stream.Stream<A, Status.Status, R>
}

/** An interceptor of a server that provides a service to the handlers of the calls it is around: see {@link provide}. */
export interface ProvidingInterceptor<out Service> extends ServerInterceptor {
  readonly provides: Context.Key<Service, unknown>
}

/** The services that interceptors provide. */
export type ProvidedBy<Interceptors extends ReadonlyArray<ServerInterceptor>> =
  Interceptors[number] extends infer Interceptor
    ? Interceptor extends ProvidingInterceptor<infer Service>
      ? Service
      : never
    : never

/**
 * Provides a service to handlers, made for each call. If `make` fails, the call is answered with its status.
 *
 * ```ts
 * class CurrentUser extends Context.Service<CurrentUser, { readonly name: string }>()("CurrentUser") {}
 *
 * const authenticated = GrpcInterceptor.provide(CurrentUser, ({ peer }) =>
 *   peer.names.length > 0
 *     ? Effect.succeed({ name: PeerIdentity.format(peer.names) })
 *     : Effect.fail(Status.unauthenticated("Client certificate missing"))
 * )
 *
 * GrpcServer.serve(Accounts, handlers, statuses, { interceptors: [authenticated] })
 * ```
 *
 * Handlers that need the service compile only where such an interceptor, or a layer, provides it. Pass the interceptor to
 * {@link GrpcServer.serve} for one service, or to `NodeGrpcServer.listen` for all services of a server. In the latter case it also runs for
 * health checks and reflection: a `make` that fails for them marks the server as not ready.
 *
 * The list of interceptors must be inferred as a tuple: pass it inline or declare it `as const`. A list of the type
 * `ReadonlyArray<ServerInterceptor>` provides nothing to the compiler.
 */
export const provide = <Service, Shape>(
  service: Context.Key<Service, Shape>,
  make: (call: ServerCall) => Effect.Effect<Shape, Status.Status>
): ProvidingInterceptor<Service> => ({
  provides: service,
  // a call that reaches no handler has been answered already
  around: (answer, call) => (call.isRejected ? answer : Effect.provideServiceEffect(answer, service, make(call)))
})

/** A call that a client makes, with all its attempts. */
export interface ClientCall {
  /** With its package. */
  readonly service: string
  readonly method: string
  readonly kind: Kind
  /** The target of the channel, in gRPC's name syntax. */
  readonly target: string
  /** When it started, in milliseconds of `performance.now()`. */
  readonly startedAt: number
  /** Deadline, in milliseconds of `performance.now()`; Infinity without one. */
  readonly deadline: number
  /** The initial metadata. Changes by an interceptor are sent with all attempts. */
  readonly metadata: Metadata
}

/** One attempt of a call. */
export interface ClientAttempt extends ClientCall {
  /** Counted from 1. */
  readonly attempt: number
  /** The address of the server, such as "127.0.0.1:50051"; undefined until grpc-js knows it. */
  readonly peer: () => string | undefined
}

/**
 * An interceptor of the calls that a client makes, or of their attempts: a channel has a separate list of each.
 *
 * A call with a Stream of responses lasts until the Stream ends or is no longer consumed. `around` may fail before the Stream starts, and
 * cannot change how it ends.
 */
export interface Interceptor<Call, Error> extends Hooks<Call, unknown> {
  /** Wraps the Effect that makes the call. */
  readonly around?: <A, E, R>(effect: Effect.Effect<A, E | Error, R>, call: Call) => Effect.Effect<A, E | Error, R>
}

/** An interceptor of calls, each with all its attempts. */
export type ClientInterceptor = Interceptor<ClientCall, GrpcError>

/** An interceptor of the attempts of calls. */
export type ClientAttemptInterceptor = Interceptor<ClientAttempt, Status.Status>

/**
 * The status that a call of a client, or an attempt, ended with: undefined is OK, CANCELLED is an interruption, and UNKNOWN is a
 * non-status error.
 */
export const clientStatusOf = (exit: Exit.Exit<unknown, unknown>): Status.Status | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  if (Cause.hasInterruptsOnly(exit.cause)) return cancelled
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error
  if (error instanceof GrpcError) return error.reason
  return Status.isStatus(error) ? error : notStatus
}

const cancelled = Status.cancelled("Cancelled")

const notStatus = Status.unknown("The call failed with a non-status error")
