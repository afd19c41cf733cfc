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
import { Context, type Effect } from "effect"

import type { SubjectAltName } from "./PeerIdentity.ts"

/** The four kinds of methods. */
export type Kind = "unary" | "serverStream" | "clientStream" | "bidi"

/** Who is calling. */
export interface Peer {
  /** The address and port at the other end of the connection. */
  readonly address: string
  /** Who its certificate says it is: nobody without mutual TLS. */
  readonly names: ReadonlyArray<SubjectAltName>
}

export class GrpcCall extends Context.Service<
  GrpcCall,
  {
    /** With its package, as "onlinebooks.recommendations.v1.RecommendationsService". */
    readonly service: string
    readonly method: string
    readonly kind: Kind
    readonly peer: Peer
    /** When the client stops waiting, in milliseconds since 1970; infinite if it never does. See {@link Deadline} too. */
    readonly deadline: number
    /** What the client sent along with the request; whoever changes it changes it for all that look at it later. */
    readonly metadata: Metadata
    /** Sends metadata ahead of the response: before the first message, or never. */
    readonly sendMetadata: (metadata: Metadata) => Effect.Effect<void>
    /** Adds metadata that is sent after the response, with the status. */
    readonly addTrailers: (metadata: Metadata) => Effect.Effect<void>
  }
>()("onlinebooks/layers/GrpcCall") {}
