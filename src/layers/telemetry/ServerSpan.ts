/**
 * The span of a server around what it answers, in the trace that a request comes with.
 */
import { Context, Effect, Tracer } from "effect"

import * as Sampling from "./Sampling.ts"
import * as Span from "./Span.ts"

/** What is known of a request before it is answered. */
export interface Request {
  readonly name: string
  /** Where the request comes from, as {@link TraceContext.read} has it; undefined begins a trace. */
  readonly parent: Tracer.ExternalSpan | undefined
  /** Asked for only if the span is recorded. */
  readonly attributes: () => Readonly<Record<string, unknown>>
}

/** The span of the request that is being answered, if it is recorded. */
export const Recorded = Context.Reference<Tracer.Span | undefined>("layers/telemetry/ServerSpan/Recorded", {
  defaultValue: () => undefined
})

/**
 * The context to answer a request in: with a span of kind server, which is {@link Recorded}. Where nothing is recorded no span is
 * made, and what came with the request goes on with what is asked for it.
 */
export const begin = (context: Context.Context<never>, request: Request): Context.Context<never> => {
  const tracer = Context.get(context, Tracer.Tracer)
  const { name, parent } = request
  const passing = tracer === Tracer.nativeTracer ? parent : Sampling.passing(tracer, parent)
  if (passing !== undefined) return Context.add(context, Tracer.ParentSpan, passing)
  if (tracer === Tracer.nativeTracer) return context
  const kind = { kind: "server", annotations: Sampling.decided } as const
  const span = Effect.runSyncWith(context)(
    // without a parent it is not below the span in which the server was started
    Effect.makeSpan(name, parent === undefined ? { ...kind, root: true } : { ...kind, parent })
  )
  const inSpan = Context.add(context, Tracer.ParentSpan, span)
  if (!span.sampled) return inSpan
  Span.setAll(span, request.attributes())
  return Context.add(inSpan, Recorded, span)
}
