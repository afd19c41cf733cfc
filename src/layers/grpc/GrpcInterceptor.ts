/**
 * What is done around every call of a server or a client, whatever its method is: once, in one place, and not in handlers.
 *
 * An interceptor makes of the effect that answers a call, or makes it, another one. It sees the call before, its exit after, and
 * may do without the effect: fail, or wait. A server and a client are given theirs in a list whose first is the outermost, so that
 *
 * ```ts
 * interceptors: [first, second]
 * ```
 *
 * begins with `first`, goes on with `second`, then makes the call, and ends with `second` and `first`.
 *
 * ```ts
 * const authenticate: ServerInterceptor = {
 *   answer: (answer, { metadata }) =>
 *     metadata.get("authorization").length > 0 ? answer : Effect.fail(Status.unauthenticated("Who are you?"))
 * }
 * ```
 *
 * What only looks on may do without an effect, for which a call pays even if there is nothing to do: it is told when a call begins
 * and how it has ended, and is in the same list.
 *
 * ```ts
 * const count: ServerInterceptor = {
 *   ended: (call, _, status) => void counts.add(`${call.method} ${status?._tag ?? "OK"}`)
 * }
 * ```
 *
 * Tracing, metrics, the access log and the error report are interceptors too, and come first: see {@link DefaultObservers}.
 */
import type { Metadata } from "@grpc/grpc-js"
import { Cause, type Context, type Effect, Exit, type Stream } from "effect"

import type { GrpcCall, Kind } from "./GrpcCall.ts"
import { GrpcError } from "./GrpcError.ts"
import * as Status from "./Status.ts"

/**
 * What is done around the calls that a server answers.
 *
 * It sees every call once, those that no handler gets too (refused, of an unknown method, or with a message that cannot be read):
 * of them the answer is the status that they have got already, and what an interceptor makes of it is seen by those further out
 * only.
 */
export interface ServerInterceptor {
  /**
   * Around what answers a call. Where that is a Stream, it is the effect that sends all of it. The errors of handlers have become
   * statuses by then; {@link GrpcCall} says which status becomes of an exit.
   */
  readonly answer?: <A, R>(
    answer: Effect.Effect<A, Status.Status, R>,
    call: GrpcCall["Service"]
  ) => Effect.Effect<A, Status.Status, R>
  /** What there is in the context of what answers a call, those within this one included, which is given as it is without. */
  readonly context?: (context: Context.Context<never>, call: GrpcCall["Service"]) => Context.Context<never>
  /** Told of a call before it is answered, with that context. */
  readonly begun?: (call: GrpcCall["Service"], context: Context.Context<never>) => void
  /**
   * Told how a call has ended, before its client is: with what {@link GrpcCall} says becomes of it, where undefined is OK. If there is
   * an effect to be run, nobody waits for it.
   */
  readonly ended?: (
    call: GrpcCall["Service"],
    exit: Exit.Exit<unknown, Status.Status>,
    status: Status.Status | undefined,
    context: Context.Context<never>
  ) => Effect.Effect<void> | void
  /** Told of each method that a server has, before there are calls. */
  readonly method?: (method: Pick<GrpcCall["Service"], "kind" | "method" | "service">) => Effect.Effect<void>
  /**
   * The Stream that a call is answered with, for those who want its messages. One that its handler has encoded is an
   * {@link EncodedMessage}, here as in what `answer` comes to.
   */
  readonly stream?: <A, R>(
    messages: Stream.Stream<A, Status.Status, R>,
    call: GrpcCall["Service"]
  ) => Stream.Stream<A, Status.Status, R>
}

/** A call that a client makes. */
export interface ClientCall {
  /** With its package. */
  readonly service: string
  readonly method: string
  readonly kind: Kind
  /** Whom the channel leads to, as gRPC names it. */
  readonly target: string
  /** When it must be over, in milliseconds as `performance.now()` counts them; infinite without a limit. */
  readonly deadline: number
  /** What goes out with it. What is set here is sent, in all attempts. */
  readonly metadata: Metadata
}

/** One attempt of a call. */
export interface ClientAttempt extends ClientCall {
  /** Counts from 1. */
  readonly attempt: number
  /** Who gets it, as "127.0.0.1:50051". grpc-js says so once it has heard from there, or given up. */
  readonly peer: () => string | undefined
}

/** What looks on at one call of a client, or at one attempt of it. */
export interface Watcher {
  /** What there is in the context of it, which is as it is without. */
  readonly context?: Context.Context<never> | undefined
  /** Told how it has ended, where undefined is OK: see {@link clientStatusOf}. It ends once what that gives has been run. */
  readonly ended?: (exit: Exit.Exit<unknown, unknown>, status: Status.Status | undefined) => Effect.Effect<void> | void
}

/**
 * What is done around the calls that a client makes.
 *
 * Where the answer is a Stream, the effects end when it ends or its reader leaves. They may fail before it begins, and not change
 * how it ends.
 *
 * What only looks on may do without an effect here too: it is told of a call, and gives who is told of its end.
 *
 * ```ts
 * const count: ClientInterceptor = {
 *   watchCall: ({ method }) => ({ ended: (_, status) => void counts.add(`${method} ${status?._tag ?? "OK"}`) })
 * }
 * ```
 */
export interface ClientInterceptor {
  /** Told of a call, with all its attempts, before it is made, and of the context that it is made in. */
  readonly watchCall?: (info: ClientCall, context: Context.Context<never>) => Watcher | undefined
  /** Told of each attempt. */
  readonly watchAttempt?: (info: ClientAttempt, context: Context.Context<never>) => Watcher | undefined
  /** Around a call, with all its attempts. */
  readonly call?: <A, E, R>(
    call: Effect.Effect<A, E | GrpcError, R>,
    info: ClientCall
  ) => Effect.Effect<A, E | GrpcError, R>
  /** Around each attempt. */
  readonly attempt?: <A, E, R>(
    attempt: Effect.Effect<A, E | Status.Status, R>,
    info: ClientAttempt
  ) => Effect.Effect<A, E | Status.Status, R>
  /** The Stream that a call is answered with, for those who want its messages. */
  readonly stream?: <A, E, R>(
    messages: Stream.Stream<A, E | GrpcError, R>,
    info: ClientCall
  ) => Stream.Stream<A, E | GrpcError, R>
}

/**
 * How a call of a client, or an attempt, has ended: undefined is OK, CANCELLED one that was interrupted, UNKNOWN one that failed
 * with something that is no status.
 */
export const clientStatusOf = (exit: Exit.Exit<unknown, unknown>): Status.Status | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  if (Cause.hasInterruptsOnly(exit.cause)) return cancelled
  const error = exit.cause.reasons.find(Cause.isFailReason)?.error
  if (error instanceof GrpcError) return error.reason
  return Status.isStatus(error) ? error : notStatus
}

const cancelled = Status.cancelled("Cancelled")

const notStatus = Status.unknown("It failed with something other than a status")
