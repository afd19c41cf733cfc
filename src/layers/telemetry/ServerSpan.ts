/**
 * The span of a server around what it answers, in the trace that a request comes with.
 */
import { Context, Effect, Tracer } from "effect"

import * as Sampling from "./Sampling.ts"
import { setAttributes } from "./spans.ts"

/** What is known of a request before it is answered. */
export interface Request {
  readonly name: string
  /** Where the request comes from, as {@link TraceContext.read} has it; undefined begins a trace. */
  readonly parent: Tracer.ExternalSpan | undefined
  /** Asked for only if the span is recorded. */
  readonly attributes: () => Readonly<Record<string, unknown>>
}

/** The span of the request that is being answered, if it is recorded. */
export const RecordedSpan = Context.Reference<Tracer.Span | undefined>("layers/telemetry/ServerSpan/RecordedSpan", {
  defaultValue: () => undefined
})

/**
 * The context to answer a request in: with a span of kind server, which is {@link RecordedSpan}. Where nothing is recorded no span is
 * made, and what came with the request goes on with what is asked for it.
 */
export const start = (context: Context.Context<never>, request: Request): Context.Context<never> => {
  const tracer = Context.get(context, Tracer.Tracer)
  const { name, parent } = request
  const nonRecording = tracer === Tracer.nativeTracer ? parent : Sampling.nonRecordingSpan(tracer, parent)
  if (nonRecording !== undefined) return Context.add(context, Tracer.ParentSpan, nonRecording)
  if (tracer === Tracer.nativeTracer) return context
  const kind = { kind: "server", annotations: Sampling.alreadySampled } as const
  const span = Effect.runSyncWith(context)(
    // without a parent it is not below the span in which the server was started
    Effect.makeSpan(name, parent === undefined ? { ...kind, root: true } : { ...kind, parent })
  )
  const inSpan = Context.add(context, Tracer.ParentSpan, span)
  if (!span.sampled) return inSpan
  setAttributes(span, request.attributes())
  return Context.add(inSpan, RecordedSpan, span)
}
