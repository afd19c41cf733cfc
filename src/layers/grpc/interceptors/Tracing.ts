/**
 * Spans for calls, by OpenTelemetry's conventions for gRPC (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/), and the
 * context of traces in the metadata of calls, by https://www.w3.org/TR/trace-context/.
 *
 * A server has a span for each call, of kind server, whose parent is the span of its caller. A client has one for each attempt, of
 * kind client, and around them one for the call, since that may be made several times, or not at all. Where there is no tracer
 * there are no spans, and what came with a call goes on with the calls that are made for it.
 */
import type { Metadata } from "@grpc/grpc-js"
import { Cause, Context, Effect, Exit, References, Tracer } from "effect"

import * as Sampling from "../../telemetry/Sampling.ts"
import * as ServerSpan from "../../telemetry/ServerSpan.ts"
import { endSpan, errorExit, setAttributes } from "../../telemetry/spans.ts"
import * as TraceContext from "../../telemetry/TraceContext.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import { type GrpcCall, unknown } from "../GrpcCall.ts"
import type { ClientAttemptInterceptor, ClientCall, ClientInterceptor, ServerInterceptor } from "../GrpcInterceptor.ts"
import * as Status from "../Status.ts"

/** Answers each call in a span of its own, which says who called. */
export const server: ServerInterceptor = {
  onStart: (call, context) =>
    ServerSpan.start(context, {
      name: methodOf(call),
      parent: TraceContext.fromHeaders(headersOf(call.metadata)),
      attributes: () => serverAttributes(call)
    }),
  onEnd: (_call, exit, status, context) => {
    const span = Context.get(context, ServerSpan.RecordedSpan)
    if (span === undefined) return
    return end(span, exit, status, status !== undefined && Status.isServerError(status))
  }
}

/** Makes each call in a span of its own. */
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
  onEnd: (call, exit, status, context) => {
    const span = recordedOf(call, context)
    return span === undefined ? undefined : endOfClient(span, exit, status)
  }
}

/** Makes each attempt in a span of its own, and sends the context of that to the server. */
export const clientAttempt: ClientAttemptInterceptor = {
  onStart: (attempt, context) => {
    const outer = Context.getOrUndefined(context, Tracer.ParentSpan)
    // the span of the call stands for this one too
    if (tracerOf(context) === undefined || outer?.sampled === false) {
      return send(attempt.metadata, TraceContext.toHeaders(context))
    }
    const span = makeSpan(context, methodOf(attempt), { kind: "client" })
    const inSpan = Context.add(context, Tracer.ParentSpan, span)
    send(attempt.metadata, TraceContext.toHeaders(inSpan))
    if (!span.sampled) return inSpan
    // as gRPC's own conventions have it (A72)
    span.attribute("previous-rpc-attempts", attempt.attempt - 1)
    return recorded(inSpan, attempt, span)
  },
  onEnd: (attempt, exit, status, context) => {
    const span = recordedOf(attempt, context)
    if (span === undefined) return
    setAttributes(span, addressOf("network.peer", attempt.peer()))
    return endOfClient(span, exit, status)
  }
}

/** The recorded span of a call of a client, or of an attempt. Other calls inherit the context, so it says whose it is. */
const Recorded = Context.Reference<{ readonly call: ClientCall; readonly span: Tracer.Span } | undefined>(
  "layers/grpc/interceptors/Tracing/Recorded",
  { defaultValue: () => undefined }
)

/** The context of a call that is recorded. */
const recorded = (context: Context.Context<never>, call: ClientCall, span: Tracer.Span): Context.Context<never> => {
  setAttributes(span, clientAttributes(call))
  return Context.add(context, Recorded, { call, span })
}

const recordedOf = (call: ClientCall, context: Context.Context<never>): Tracer.Span | undefined => {
  const recorded = Context.get(context, Recorded)
  return recorded?.call === call ? recorded.span : undefined
}

/** The tracer of a context, if there is one that anybody sees the spans of. */
const tracerOf = (context: Context.Context<never>): Tracer.Tracer | undefined => {
  const tracer = Context.get(context, Tracer.Tracer)
  return tracer === Tracer.nativeTracer || !Context.get(context, References.TracerEnabled) ? undefined : tracer
}

const makeSpan = (context: Context.Context<never>, name: string, options: Tracer.SpanOptionsNoTrace): Tracer.Span =>
  Effect.runSyncWith(context)(Effect.makeSpan(name, options))

/** To a client every status but OK is an error; that it does not want the answer any more is none. */
const endOfClient = (span: Tracer.Span, exit: Exit.Exit<unknown, unknown>, status: Status.Status | undefined) =>
  end(span, exit, status, status !== undefined && Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause))

const send = (metadata: Metadata, context: TraceContext.TraceHeaders | undefined): void => {
  if (context === undefined) return
  metadata.set("traceparent", context.traceparent)
  if (context.tracestate !== undefined) metadata.set("tracestate", context.tracestate)
}

const headersOf =
  (metadata: Metadata): TraceContext.HeaderReader =>
  (name) => {
    const values = metadata.get(name)
    return values.length === 0 ? undefined : values.join(",")
  }

/** Ends a span with the status of a call: undefined is OK. A bug is shown as it is, and a status as itself. */
const end = (
  span: Tracer.Span,
  exit: Exit.Exit<unknown, unknown>,
  status: Status.Status | undefined,
  isError: boolean
): Effect.Effect<void> => {
  const code = status === undefined ? "OK" : Status.nameInCapitals[status._tag]
  span.attribute("rpc.status_code", code)
  if (!isError || status === undefined) return endSpan(span, Exit.void)
  span.attribute("error.type", code)
  return endSpan(span, Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? exit : errorExit(code, status.message))
}

const serverAttributes = (call: GrpcCall["Service"]): Record<string, unknown> => ({
  "rpc.system.name": "grpc",
  "rpc.method": methodOf(call),
  ...(call.method === unknown ? { "rpc.method_original": call.name } : {}),
  ...addressOf("client", call.peer.address),
  // there is no convention for the subjectAltNames of a client
  ...(call.peer.names.length === 0
    ? {}
    : { "rpc.grpc.peer.names": call.peer.names.map((name) => PeerIdentity.format([name])) })
})

const clientAttributes = ({ method, service, target }: ClientCall): Record<string, unknown> => ({
  "rpc.system.name": "grpc",
  "rpc.method": `${service}/${method}`,
  ...serverOf(target)
})

/** The name of a method as OpenTelemetry has it: one that the server does not have is `_OTHER`. */
export const methodOf = ({ method, service }: { readonly method: string; readonly service: string }): string =>
  method === unknown ? unknown : `${service}/${method}`

/** The host that a target names, without its scheme and port. */
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

/** The two of "127.0.0.1:40404" or "[::1]:40404". */
const addressOf = (prefix: string, address: string | undefined): Record<string, unknown> => {
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(address ?? "") ?? []
  return port === undefined ? {} : { [`${prefix}.address`]: bracketed ?? plain, [`${prefix}.port`]: Number(port) }
}
