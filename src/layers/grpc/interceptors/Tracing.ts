/**
 * Spans of calls, by OpenTelemetry's conventions for gRPC (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/), and trace context in
 * the metadata of calls, by W3C Trace Context (https://www.w3.org/TR/trace-context/).
 *
 * A server has a span of kind server for each call; its parent is the span of the caller. A client has a span for each call and, within
 * it, a span of kind client for each attempt, since a call may have several attempts or none. Without a tracer there are no spans, and the
 * trace context of a call is passed on to the calls made while it is answered.
 */
import type { Metadata } from "@grpc/grpc-js"
import { Cause, Context, Effect, Exit, References, Tracer } from "effect"

import * as Sampling from "../../telemetry/Sampling.ts"
import * as TraceContext from "../../telemetry/TraceContext.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import { otherLabel } from "../GrpcCall.ts"
import type {
  ClientAttempt,
  ClientAttemptInterceptor,
  ClientCall,
  ClientInterceptor,
  ServerCall,
  ServerInterceptor
} from "../GrpcInterceptor.ts"
import * as Status from "../Status.ts"

/** Answers each call in a span, with the caller as an attribute. */
export const server: ServerInterceptor = {
  onStart: (call, context) => {
    // nothing to record or to propagate
    if (tracerOf(context) === undefined && call.metadata.get("traceparent").length === 0) return
    return TraceContext.startServerSpan(context, {
      name: methodOf(call),
      parent: TraceContext.fromHeaders((name) => call.metadata.get(name).join(",") || undefined),
      attributes: () => serverAttributes(call)
    })
  },
  onEnd: (_call, exit, status, context) => {
    const span = Context.get(context, TraceContext.RecordedSpan)
    if (span === undefined) return
    return end(span, exit, status, status !== undefined && Status.isServerError(status))
  }
}

/** Makes each call in a span. */
export const client: ClientInterceptor = {
  onStart: (call, context) => {
    const tracer = tracerOf(context)
    if (tracer === undefined) return
    const parent = Context.getOrUndefined(context, Tracer.ParentSpan)
    const nonRecording = Sampling.nonRecordingSpan(tracer, parent)
    if (nonRecording !== undefined)
      return nonRecording === parent ? undefined : Context.add(context, Tracer.ParentSpan, nonRecording)
    const span = makeSpan(context, methodOf(call), { annotations: Sampling.alreadySampled })
    const inSpan = Context.add(context, Tracer.ParentSpan, span)
    return span.sampled ? recorded(inSpan, call, span) : inSpan
  },
  onEnd: onClientEnd
}

/** Makes each attempt in a span, whose context is sent to the server. */
export const clientAttempt: ClientAttemptInterceptor = {
  onStart: (attempt, context) => {
    const outer = Context.getOrUndefined(context, Tracer.ParentSpan)
    // attempts of a call that is not recorded have no spans of their own
    if (tracerOf(context) === undefined || outer?.sampled === false) {
      return outer === undefined ? undefined : send(attempt.metadata, context)
    }
    const span = makeSpan(context, methodOf(attempt), { kind: "client" })
    const inSpan = Context.add(context, Tracer.ParentSpan, span)
    send(attempt.metadata, inSpan)
    if (!span.sampled) return inSpan
    // gRPC's A72
    span.attribute("previous-rpc-attempts", attempt.attempt - 1)
    return recorded(inSpan, attempt, span)
  },
  onEnd: onClientEnd
}

/** The recorded span of a call or of an attempt. Calls within it inherit the context, so it says whose span it is. */
const Recorded = Context.Reference<{ readonly call: ClientCall; readonly span: Tracer.Span } | undefined>(
  "layers/grpc/interceptors/Tracing/Recorded",
  { defaultValue: () => undefined }
)

const recorded = (context: Context.Context<never>, call: ClientCall, span: Tracer.Span): Context.Context<never> => {
  TraceContext.setAttributes(span, clientAttributes(call))
  return Context.add(context, Recorded, { call, span })
}

/** The tracer of a context; undefined if its spans would go nowhere. */
const tracerOf = (context: Context.Context<never>): Tracer.Tracer | undefined => {
  const tracer = Context.get(context, Tracer.Tracer)
  return tracer === Tracer.nativeTracer || !Context.get(context, References.TracerEnabled) ? undefined : tracer
}

const makeSpan = (context: Context.Context<never>, name: string, options: Tracer.SpanOptionsNoTrace): Tracer.Span =>
  Effect.runSyncWith(context)(Effect.makeSpan(name, options))

/** Ends the span of a call or of an attempt. Every status but OK is an error to a client, but for a call that it has cancelled itself. */
function onClientEnd(
  call: ClientCall & Partial<Pick<ClientAttempt, "peer">>,
  exit: Exit.Exit<unknown, unknown>,
  status: Status.Status | undefined,
  context: Context.Context<never>
): Effect.Effect<void> | undefined {
  const recorded = Context.get(context, Recorded)
  if (recorded?.call !== call) return undefined
  const { span } = recorded
  if (call.peer !== undefined) TraceContext.setAttributes(span, addressOf("network.peer", call.peer()))
  return end(span, exit, status, Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause))
}

/** Adds the trace context of the current span to metadata. */
const send = (metadata: Metadata, context: Context.Context<never>): void => {
  const headers = TraceContext.toHeaders(context)
  if (headers === undefined) return
  metadata.set("traceparent", headers.traceparent)
  if (headers.tracestate !== undefined) metadata.set("tracestate", headers.tracestate)
}

/** Ends a span with the status of a call; undefined is OK. A defect is recorded with its stack, any other error with its status. */
const end = (
  span: Tracer.Span,
  exit: Exit.Exit<unknown, unknown>,
  status: Status.Status | undefined,
  isError: boolean
): Effect.Effect<void> => {
  const code = status === undefined ? "OK" : Status.nameInCapitals[status._tag]
  span.attribute("rpc.status_code", code)
  if (!isError || status === undefined) return TraceContext.endSpan(span, Exit.void)
  span.attribute("error.type", code)
  return TraceContext.endSpan(
    span,
    Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? exit : TraceContext.errorExit(code, status.message)
  )
}

const serverAttributes = (call: ServerCall): Record<string, unknown> => ({
  "rpc.system.name": "grpc",
  "rpc.method": methodOf(call),
  ...(call.method === otherLabel ? { "rpc.method_original": call.name } : {}),
  ...addressOf("client", call.peer.address),
  // OpenTelemetry has no attribute for the subjectAltNames of a client
  ...(call.peer.names.length === 0
    ? {}
    : { "rpc.grpc.peer.names": call.peer.names.map((name) => PeerIdentity.format([name])) })
})

const clientAttributes = ({ method, service, target }: ClientCall): Record<string, unknown> => ({
  "rpc.system.name": "grpc",
  "rpc.method": `${service}/${method}`,
  ...serverOf(target)
})

/** The value of OpenTelemetry's attribute rpc.method; `_OTHER` for a method that the server does not have. */
export const methodOf = ({ method, service }: { readonly method: string; readonly service: string }): string =>
  method === otherLabel ? otherLabel : `${service}/${method}`

/** The host of a target, without scheme and port. */
export const hostOf = (target: string): string => {
  const authority = authorityOf(target)
  return String(addressOf("server", authority)["server.address"] ?? authority)
}

const serverOf = (target: string): Record<string, unknown> => ({
  "server.address": hostOf(target),
  ...addressOf("server", authorityOf(target))
})

const authorityOf = (target: string): string =>
  target.slice(target.lastIndexOf("/") + 1).replace(/^(?:dns|ipv4|ipv6):/, "")

/** The host and the port of "127.0.0.1:40404" or "[::1]:40404". */
const addressOf = (prefix: string, address: string | undefined): Record<string, unknown> => {
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(address ?? "") ?? []
  return port === undefined ? {} : { [`${prefix}.address`]: bracketed ?? plain, [`${prefix}.port`]: Number(port) }
}
