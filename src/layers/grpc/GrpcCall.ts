/**
 * The call that a handler answers, as a service: metadata, peer and deadline of the request, and the metadata of the response. Everything
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
import type { Metadata } from "@grpc/grpc-js"
import { Context, type Effect, type Exit } from "effect"

import type { SubjectAltName } from "../tls/PeerIdentity.ts"
import type { Status } from "./Status.ts"

/** The four kinds of methods. */
export type Kind = "unary" | "serverStream" | "clientStream" | "bidi"

/** The client at the other end of the connection. */
export interface Peer {
  /** Such as "127.0.0.1:40404". */
  readonly address: string
  /** The subjectAltNames of its certificate; empty without mutual TLS. */
  readonly names: ReadonlyArray<SubjectAltName>
}

/** Replaces the name of a service or a method that the server does not have, so that callers cannot create labels of metrics. */
export const unknown = "_OTHER"

export class GrpcCall extends Context.Service<
  GrpcCall,
  {
    /** With its package, such as "grpc.health.v1.Health"; {@link unknown} if the server does not have the method. */
    readonly service: string
    /** {@link unknown} if the server does not have it. */
    readonly method: string
    readonly kind: Kind
    /** "service/method" as the client sent it. */
    readonly name: string
    /** A unique id, which the client gets in place of the cause of a defect. */
    readonly id: string
    /** When the headers arrived, in milliseconds of `performance.now()`. */
    readonly startedAt: number
    /** Whether the call was ended by the server or by grpc-js and not by its handler: it was refused, or its request is malformed. */
    readonly isRejected: boolean
    readonly peer: Peer
    /** In milliseconds of `performance.now()`; infinite without a deadline. See {@link Deadline}. */
    readonly deadline: number
    /** The metadata of the request. A change is visible to everything that reads it later. */
    readonly metadata: Metadata
    /** The error of the handler that became the status; undefined if it has not failed. */
    readonly failure: unknown
    /** Sends metadata ahead of the response. It has no effect after the first message. */
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
