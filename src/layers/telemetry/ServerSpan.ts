/**
 * Starts the server span of a request, in the trace of the caller.
 */
import { Context, Effect, Tracer } from "effect"

import * as Sampling from "./Sampling.ts"
import { setAttributes } from "./spans.ts"

/** Data of a server span. */
export interface Request {
  readonly name: string
  /** The caller's span, from {@link TraceContext.fromHeaders}. Undefined starts a new trace. */
  readonly parent: Tracer.ExternalSpan | undefined
  /** Evaluated only if the span is recorded. */
  readonly attributes: () => Readonly<Record<string, unknown>>
}

/** The server span of the current request; undefined if it is not recorded. */
export const RecordedSpan = Context.Reference<Tracer.Span | undefined>("layers/telemetry/ServerSpan/RecordedSpan", {
  defaultValue: () => undefined
})

/**
 * Adds a span of kind server to the context that a request is handled in, and sets {@link RecordedSpan}. If the trace is not recorded,
 * the context gets a non-recording span, so that outgoing requests still propagate the trace.
 */
export const start = (context: Context.Context<never>, request: Request): Context.Context<never> => {
  const tracer = Context.get(context, Tracer.Tracer)
  const { name, parent } = request
  const nonRecording = tracer === Tracer.nativeTracer ? parent : Sampling.nonRecordingSpan(tracer, parent)
  if (nonRecording !== undefined) return Context.add(context, Tracer.ParentSpan, nonRecording)
  if (tracer === Tracer.nativeTracer) return context
  const kind = { kind: "server", annotations: Sampling.alreadySampled } as const
  const span = Effect.runSyncWith(context)(
    // without `root`, a span without a parent would become a child of the span in which the server was started
    Effect.makeSpan(name, parent === undefined ? { ...kind, root: true } : { ...kind, parent })
  )
  const inSpan = Context.add(context, Tracer.ParentSpan, span)
  if (!span.sampled) return inSpan
  setAttributes(span, request.attributes())
  return Context.add(inSpan, RecordedSpan, span)
}
