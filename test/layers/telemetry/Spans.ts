/**
 * Records spans in tests.
 */
import { Exit, Option, Tracer } from "effect"

/** Recorded spans. */
export interface Recorder {
  readonly spans: Array<Tracer.NativeSpan>
  readonly tracer: Tracer.Tracer
  /** The ended spans of a name. */
  readonly named: (name: string) => ReadonlyArray<Tracer.NativeSpan>
}

/** Makes a tracer that records its spans. */
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

/** The id of the parent span, local or remote. */
export const parentOf = (span: Tracer.Span): string | undefined => Option.getOrUndefined(span.parent)?.spanId

/** Whether the span ended with an error. */
export const isError = (span: Tracer.Span): boolean => span.status._tag === "Ended" && Exit.isFailure(span.status.exit)
