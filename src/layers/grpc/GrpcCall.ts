/**
 * The current call of a handler, as a service: metadata, peer and deadline of the request, and the metadata of the response. Everything
 * that runs within a handler can access it.
 *
 * ```ts
 * Recommend: (request) =>
 *   Effect.gen(function* () {
 *     const { metadata, peer } = yield* GrpcCall
 *     const [language] = metadata.get("accept-language")
 *     ...
 *   })
 * ```
 */
import { Metadata } from "@grpc/grpc-js"
import { Context, Effect, type Exit } from "effect"

import type { SubjectAltName } from "../tls/PeerIdentity.ts"
import type { Status } from "./Status.ts"

/** The kinds of methods. */
export type Kind = "unary" | "serverStream" | "clientStream" | "bidi"

/** The client at the other end of the connection. */
export interface Peer {
  /** Such as "127.0.0.1:40404". */
  readonly address: string
  /** The subjectAltNames of its certificate; empty without mutual TLS. */
  readonly names: ReadonlyArray<SubjectAltName>
}

/**
 * The deadline of the current call, in milliseconds of `performance.now()`; Infinity without one. Handlers have that of their call, and
 * clients read it, so that deadlines propagate to the calls that a handler makes (https://grpc.io/docs/guides/deadlines/).
 *
 * It is on the monotonic clock, so changes of the wall clock do not affect it.
 */
export const Deadline = Context.Reference<number>("layers/grpc/Deadline", { defaultValue: () => Infinity })

/** Replaces the name of an unregistered service or method, so that callers cannot create labels of metrics. */
export const otherLabel = "_OTHER"

export class GrpcCall extends Context.Service<
  GrpcCall,
  {
    /** With its package, such as "grpc.health.v1.Health"; {@link otherLabel} if the method is not registered. */
    readonly service: string
    /** {@link otherLabel} if the method is not registered. */
    readonly method: string
    readonly kind: Kind
    /** "service/method" as the client sent it. */
    readonly name: string
    /** A unique id, which is sent to the client in place of the cause of a defect. */
    readonly id: string
    /** When the headers arrived, in milliseconds of `performance.now()`. */
    readonly startedAt: number
    /** Whether the server or grpc-js, and not the handler, ended the call: it was refused, or its request is malformed. */
    readonly isRejected: boolean
    readonly peer: Peer
    /** In milliseconds of `performance.now()`; infinite without a deadline. See {@link Deadline}. */
    readonly deadline: number
    /** The metadata of the request. It is mutable: later readers see changes. */
    readonly metadata: Metadata
    /** The error of the handler that became the status; undefined if it has not failed. */
    readonly failure: unknown
    /**
     * Sends the initial metadata. Only the first call has an effect: with several senders, the outermost interceptor wins if it sends before
     * it runs the handler. No-op after the first message.
     */
    readonly sendMetadata: (metadata: Metadata) => Effect.Effect<void>
    /** Adds trailers, which are sent with the status. */
    readonly addTrailers: (metadata: Metadata) => Effect.Effect<void>
    /**
     * The status of an exit: undefined is OK, a defect is INTERNAL, and the status of an interruption is its reason (cancelled by the
     * client, deadline exceeded, server closes).
     */
    readonly statusOf: (exit: Exit.Exit<unknown, Status>) => Status | undefined
  }
>()("layers/grpc/GrpcCall") {}

/** Sends initial metadata with one entry: see `sendMetadata`. */
export const sendHeader = (name: string, value: string): Effect.Effect<void, never, GrpcCall> =>
  Effect.flatMap(GrpcCall, ({ sendMetadata }) => {
    const metadata = new Metadata()
    metadata.set(name, value)
    return sendMetadata(metadata)
  })
