/**
 * The span of a server around what it answers, in the trace that a request comes with.
 */
import { Effect, type Exit, Tracer } from "effect"

import * as Sampling from "./Sampling.ts"
import * as Span from "./Span.ts"

export interface Options<A, E> {
  readonly name: string
  /** Where the request comes from, as {@link TraceContext.read} has it; undefined begins a trace. */
  readonly parent: Tracer.ExternalSpan | undefined
  /** Asked for only if the span is recorded. */
  readonly attributes: () => Readonly<Record<string, unknown>>
  /** Ends the span, with what is known of how it went. */
  readonly end: (span: Tracer.Span, exit: Exit.Exit<A, E>) => Effect.Effect<void>
}

/**
 * Answers in a span of kind server. Where nothing is recorded no span is made, and what came with the request goes on with what is
 * asked for it.
 */
export const around = <A, E, R>(answer: Effect.Effect<A, E, R>, options: Options<A, E>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const tracer = fiber.getRef(Tracer.Tracer)
    const { parent } = options
    const passing = tracer === Tracer.nativeTracer ? parent : Sampling.passing(tracer, parent)
    if (passing !== undefined) return Effect.provideService(answer, Tracer.ParentSpan, passing)
    if (tracer === Tracer.nativeTracer) return answer
    const kind = { kind: "server", annotations: Sampling.decided } as const
    return Effect.flatMap(
      // without a parent it is not below the span in which the server was started
      Effect.makeSpan(options.name, parent === undefined ? { ...kind, root: true } : { ...kind, parent }),
      (span) => {
        const inSpan = Effect.provideService(answer, Tracer.ParentSpan, span)
        if (!span.sampled) return inSpan
        Span.setAll(span, options.attributes())
        return Effect.onExit(inSpan, (exit) => options.end(span, exit))
      }
    )
  })
