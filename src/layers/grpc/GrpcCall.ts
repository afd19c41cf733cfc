/**
 * The call that a handler is answering: what it needs to know of it besides the request, and what it may say besides the
 * response. It is there as a service, so that whatever is called by a handler can ask for it too.
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
import type { Metadata } from "@grpc/grpc-js"
import { Context, type Effect, type Exit } from "effect"

import type { SubjectAltName } from "../tls/PeerIdentity.ts"
import type { Status } from "./Status.ts"

/** The four kinds of methods. */
export type Kind = "unary" | "serverStream" | "clientStream" | "bidi"

/** Who is calling. */
export interface Peer {
  /** The address and port at the other end of the connection. */
  readonly address: string
  /** Who its certificate says it is: nobody without mutual TLS. */
  readonly names: ReadonlyArray<SubjectAltName>
}

/** Stands for a service or a method that the server does not have: what a caller makes up is no label of a metric. */
export const unknown = "_OTHER"

export class GrpcCall extends Context.Service<
  GrpcCall,
  {
    /** With its package, as "onlinebooks.recommendations.v1.RecommendationsService"; {@link unknown} if the server has none such. */
    readonly service: string
    /** {@link unknown} if the server has none such. */
    readonly method: string
    readonly kind: Kind
    /** The service and the method as the client wrote them, "service/method". */
    readonly name: string
    /** Tells this call from all others: what the client is given instead of the cause when it runs into a bug. */
    readonly id: string
    /** When its headers came, by `performance.now()`: in milliseconds, and monotonic. */
    readonly startedAt: number
    /**
     * Whether it is answered without its handler, which never gets it, or is interrupted in the middle of a stream: it is refused,
     * or grpc-js cannot make sense of it.
     */
    readonly isRejected: boolean
    readonly peer: Peer
    /** When the client stops waiting, in milliseconds as `performance.now()` counts them; infinite if it never does. See {@link Deadline} too. */
    readonly deadline: number
    /** What the client sent along with the request; whoever changes it changes it for all that look at it later. */
    readonly metadata: Metadata
    /** What the handler has failed with, before that became a status; undefined if it has not. */
    readonly failure: unknown
    /** Sends metadata ahead of the response: before the first message, or never. */
    readonly sendMetadata: (metadata: Metadata) => Effect.Effect<void>
    /** Adds metadata that is sent after the response, with the status. */
    readonly addTrailers: (metadata: Metadata) => Effect.Effect<void>
    /**
     * What the call is answered with when what answers it exits like that: undefined is OK, a bug is INTERNAL, and an interruption
     * is what has brought it about (the client, the deadline, or the server that closes).
     */
    readonly statusOf: (exit: Exit.Exit<unknown, Status>) => Status | undefined
  }
>()("layers/grpc/GrpcCall") {}
