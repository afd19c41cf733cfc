/**
 * Spans, kept for a test to look at.
 */
import { Exit, Option, Tracer } from "effect"

export interface Recorder {
  readonly spans: Array<Tracer.NativeSpan>
  readonly tracer: Tracer.Tracer
  /** Those that have ended and have that name. */
  readonly named: (name: string) => ReadonlyArray<Tracer.NativeSpan>
}

/** A tracer, and the spans that it has made. */
export const recorder = (): Recorder => {
  const spans: Array<Tracer.NativeSpan> = []
  return {
    spans,
    tracer: Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    }),
    named: (name) => spans.filter((span) => span.name === name && span.status._tag === "Ended")
  }
}

/** The id of the span that it is in, or of its caller. */
export const parentOf = (span: Tracer.Span): string | undefined => Option.getOrUndefined(span.parent)?.spanId

/** Whether it is shown as an error. */
export const isError = (span: Tracer.Span): boolean => span.status._tag === "Ended" && Exit.isFailure(span.status.exit)
