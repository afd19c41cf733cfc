/**
 * Spans for calls, by OpenTelemetry's conventions for gRPC: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
 */
import { Effect, Tracer } from "effect"

import { GrpcCall } from "./GrpcCall.ts"
import type { Interceptor } from "./GrpcCalls.ts"
import * as PeerIdentity from "./PeerIdentity.ts"

/** Answers each call in a span of its own, that says who called. Without a tracer that does something with it there is none. */
export const server: Interceptor = <A, E, R>(answer: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.tracer, (tracer): Effect.Effect<A, E, R | GrpcCall> =>
    tracer === Tracer.nativeTracer ? answer : spanned(answer)
  )

const spanned: Interceptor = (answer) =>
  Effect.flatMap(GrpcCall, (call) =>
    Effect.withSpan(answer, `${call.service}/${call.method}`, {
      kind: "server",
      // and not below that in which the server was started
      root: true,
      attributes: attributesOf(call),
      captureStackTrace: false
    })
  )

const attributesOf = ({ method, peer, service }: GrpcCall["Service"]): Record<string, unknown> => ({
  "rpc.system.name": "grpc",
  "rpc.method": `${service}/${method}`,
  ...clientOf(peer.address),
  // there is no convention for the subjectAltNames of a client
  ...(peer.names.length === 0 ? {} : { "rpc.grpc.peer.names": peer.names.map((name) => PeerIdentity.format([name])) })
})

/** The two of "127.0.0.1:40404" or "[::1]:40404". */
const clientOf = (address: string): Record<string, unknown> => {
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|(.+)):(\d+)$/.exec(address) ?? []
  return port === undefined ? {} : { "client.address": bracketed ?? plain, "client.port": Number(port) }
}
