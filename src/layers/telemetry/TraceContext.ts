/**
 * Traces across processes: the headers traceparent and tracestate of requests (W3C Trace Context, https://www.w3.org/TR/trace-context/),
 * the server span of a request, in the trace of its caller, and spans within it.
 */
import { Clock, Context, Effect, Exit, References, Tracer } from "effect"

import * as Sampling from "./Sampling.ts"

/** The tracestate header of the caller, which is forwarded unchanged. */
const State = Context.Reference<string | undefined>("layers/telemetry/TraceContext/State", {
  defaultValue: () => undefined
})

/** Returns the value of a header by its lower-case name. Repeated headers are joined by commas. */
export type HeaderReader = (name: string) => string | undefined

/**
 * The caller's span from request headers; undefined if traceparent is missing or invalid. With `isUntrusted` the span joins the
 * caller's trace, but its sampled flag is ignored.
 */
export const fromHeaders = (
  headers: HeaderReader,
  options?: { readonly isUntrusted?: boolean | undefined }
): Tracer.ExternalSpan | undefined => {
  const parent = headers("traceparent")
  if (parent === undefined) return undefined
  const [, version = "", traceId = "", spanId = "", flags = "", rest] = traceparent.exec(parent) ?? []
  // later versions may append fields
  if (version === "" || (version === "00" && rest !== undefined) || zeros.test(traceId) || zeros.test(spanId)) {
    return undefined
  }
  const isUntrusted = options?.isUntrusted === true
  const state = headers("tracestate")
  let annotations = Context.empty()
  if (isUntrusted) annotations = Context.add(annotations, Sampling.IsUntrusted, true)
  if (state !== undefined && tracestate.test(state)) annotations = Context.add(annotations, State, state)
  const sampled = !isUntrusted && (Number.parseInt(flags, 16) & 1) === 1
  return Tracer.externalSpan({ traceId, spanId, sampled, annotations })
}

const traceparent = /^(?!ff)([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/

const zeros = /^0+$/

/** The specification requires that 512 characters are propagated; longer values are dropped. */
const tracestate = /^[\x20-\x7e]{1,512}$/

/** Data of a server span. */
export interface ServerRequest {
  readonly name: string
  /** The caller's span, from {@link fromHeaders}. Undefined starts a new trace. */
  readonly parent: Tracer.ExternalSpan | undefined
  /** Evaluated only if the span is recorded. */
  readonly attributes: () => Readonly<Record<string, unknown>>
}

/** The server span of the current request; undefined if it is not recorded. */
export const RecordedSpan = Context.Reference<Tracer.Span | undefined>("layers/telemetry/TraceContext/RecordedSpan", {
  defaultValue: () => undefined
})

/**
 * Adds a span of kind server to the context that a request is handled in, and sets {@link RecordedSpan}. If the trace is not recorded,
 * the context gets a non-recording span, so that outgoing requests still propagate the trace.
 */
export const startServerSpan = (
  context: Context.Context<never>,
  { attributes, name, parent }: ServerRequest
): Context.Context<never> => {
  const tracer = Context.get(context, Tracer.Tracer)
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
  setAttributes(span, attributes())
  return Context.add(inSpan, RecordedSpan, span)
}

/** `Effect.withSpan` in traces that are recorded; a no-op otherwise. Use it on hot paths. */
export const withSpan = <A, E, R>(effect: Effect.Effect<A, E, R>, name: string): Effect.Effect<A, E, R> =>
  Effect.withFiber(({ cache: { span, tracer } }) => {
    const isRecorded = span?._tag === "Span" && span.sampled && tracer !== undefined && tracer !== Tracer.nativeTracer
    return isRecorded ? Effect.withSpan(effect, name, { captureStackTrace: false }) : effect
  })

/**
 * Disables spans in a context, unless it is in a trace that is recorded. For effects of a library whose spans would each begin a trace of
 * their own outside of traces.
 */
export const onlyInTraces = <R>(context: Context.Context<R>): Context.Context<R> => {
  const span = Context.getOrUndefined(context, Tracer.ParentSpan)
  return span?._tag === "Span" && span.sampled ? context : Context.add(context, References.TracerEnabled, false)
}

/** Sets several attributes. */
export const setAttributes = (span: Tracer.Span, attributes: Readonly<Record<string, unknown>>): void => {
  for (const [key, value] of Object.entries(attributes)) span.attribute(key, value)
}

/** Ends a span at the current time. */
export const endSpan = (span: Tracer.Span, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
  Effect.map(Clock.Clock, (clock) => span.end(clock.currentTimeNanosUnsafe(), exit))

/** The exit for a span that failed with an error code: exporters show `name` as the type of the exception. */
export const errorExit = (name: string, message: string): Exit.Exit<never, unknown> => {
  const error: unknown = new NamedError(name, message)
  return Exit.fail(error)
}

class NamedError extends Error {
  constructor(name: string, message: string) {
    super(message)
    this.name = name
    // the stack would point to this constructor, not to the origin of the error
    delete this.stack
  }
}

/** The headers of an outgoing request. */
export interface TraceHeaders {
  readonly traceparent: string
  readonly tracestate: string | undefined
}

/** The headers that propagate the current span of a context; undefined outside of traces. */
export const toHeaders = (context: Context.Context<never>): TraceHeaders | undefined => {
  const span = Context.getOrUndefined(context, Tracer.ParentSpan)
  return span === undefined ? undefined : write(span, Context.get(context, Tracer.Tracer))
}

const write = (span: Tracer.AnySpan, tracer: Tracer.Tracer): TraceHeaders | undefined => {
  const caller = ancestorOf(span, ({ _tag }) => _tag === "ExternalSpan")
  // the native tracer makes spans that are never exported, so the caller's span is propagated instead
  const sender = tracer === Tracer.nativeTracer ? caller : ancestorOf(span, isPropagated)
  if (sender === undefined) return undefined
  return {
    traceparent: `00-${sender.traceId}-${sender.spanId}-${sender.sampled ? "01" : "00"}`,
    tracestate: caller === undefined ? undefined : Context.get(caller.annotations, State)
  }
}

/** False for the spans that Effect makes where tracing is disabled, which have no ids. */
const isPropagated = (span: Tracer.AnySpan): boolean => !Context.get(span.annotations, Tracer.DisablePropagation)

/** The first of a span and its ancestors that matches a predicate. */
const ancestorOf = (span: Tracer.AnySpan, matches: (span: Tracer.AnySpan) => boolean): Tracer.AnySpan | undefined => {
  let ancestor: Tracer.AnySpan | undefined = span
  while (ancestor !== undefined && !matches(ancestor)) {
    ancestor = ancestor._tag === "Span" && ancestor.parent._tag === "Some" ? ancestor.parent.value : undefined
  }
  return ancestor
}
