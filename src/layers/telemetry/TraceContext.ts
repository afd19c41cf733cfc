/**
 * Who is being traced, as it goes from one process to the next in the headers traceparent and tracestate, by
 * https://www.w3.org/TR/trace-context/.
 */
import { Context, Tracer } from "effect"

/** What other tracing systems have to say of a trace; it goes on as it came. */
const State = Context.Reference<string | undefined>("layers/telemetry/TraceContext/State", {
  defaultValue: () => undefined
})

/** Whether a trace comes from outside of the house, so that it says nothing of what is to be recorded here. */
export const IsUntrusted = Context.Reference<boolean>("layers/telemetry/TraceContext/IsUntrusted", {
  defaultValue: () => false
})

/** Reads a header by its name, in lower case; of several with that name all, with commas between them. */
export type HeaderReader = (name: string) => string | undefined

/**
 * What headers say of the caller's span; undefined if nothing, or nothing that makes sense. Of a foreign caller the sampled flag
 * does not count.
 */
export const fromHeaders = (
  headers: HeaderReader,
  options?: { readonly isUntrusted?: boolean | undefined }
): Tracer.ExternalSpan | undefined => {
  const parent = headers("traceparent")
  if (parent === undefined) return undefined
  const [, version = "", traceId = "", spanId = "", flags = "", rest] = traceparent.exec(parent) ?? []
  // versions to come may have more to say after that
  if (version === "" || (version === "00" && rest !== undefined) || zeros.test(traceId) || zeros.test(spanId)) {
    return undefined
  }
  const isUntrusted = options?.isUntrusted === true
  const state = headers("tracestate")
  let annotations = Context.empty()
  if (isUntrusted) annotations = Context.add(annotations, IsUntrusted, true)
  if (state !== undefined && tracestate.test(state)) annotations = Context.add(annotations, State, state)
  const sampled = !isUntrusted && (Number.parseInt(flags, 16) & 1) === 1
  return Tracer.externalSpan({ traceId, spanId, sampled, annotations })
}

const traceparent = /^(?!ff)([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/

const zeros = /^0+$/

/** 512 characters are what everybody has to let through, and more than that nobody has to. */
const tracestate = /^[\x20-\x7e]{1,512}$/

/** What is sent of a span. */
export interface TraceHeaders {
  readonly traceparent: string
  readonly tracestate: string | undefined
}

/** What to send of the span that a context is in; undefined if it is in none that anybody else may know of. */
export const toHeaders = (context: Context.Context<never>): TraceHeaders | undefined => {
  const span = Context.getOrUndefined(context, Tracer.ParentSpan)
  return span === undefined ? undefined : write(span, Context.get(context, Tracer.Tracer))
}

const write = (span: Tracer.AnySpan, tracer: Tracer.Tracer): TraceHeaders | undefined => {
  const caller = ancestorOf(span, ({ _tag }) => _tag === "ExternalSpan")
  // without a tracer there are spans too, which nobody ever gets to see: what has been called knows of the caller's only
  const sender = tracer === Tracer.nativeTracer ? caller : ancestorOf(span, isKnown)
  if (sender === undefined) return undefined
  return {
    traceparent: `00-${sender.traceId}-${sender.spanId}-${sender.sampled ? "01" : "00"}`,
    tracestate: caller === undefined ? undefined : Context.get(caller.annotations, State)
  }
}

/** Whether it is more than a stand-in where tracing is switched off, which has no ids. */
const isKnown = (span: Tracer.AnySpan): boolean => !Context.get(span.annotations, Tracer.DisablePropagation)

/** The first like that of a span and those that it is in. */
const ancestorOf = (span: Tracer.AnySpan, isLike: (span: Tracer.AnySpan) => boolean): Tracer.AnySpan | undefined => {
  let ancestor: Tracer.AnySpan | undefined = span
  while (ancestor !== undefined && !isLike(ancestor)) {
    ancestor = ancestor._tag === "Span" && ancestor.parent._tag === "Some" ? ancestor.parent.value : undefined
  }
  return ancestor
}
