/**
 * Trace sampling with OpenTelemetry's samplers (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
 *
 * The decision is made once, where a trace enters the process, and applies to all descendants. A non-recording span keeps no
 * attributes and events, and propagates the ids of its parent with the sampled flag off, so that called services do not record either.
 */
import { Context, Option, Tracer } from "effect"
import { Hex } from "effect/encoding"

/** The values of OTEL_TRACES_SAMPLER. */
export const names = [
  "always_on",
  "always_off",
  "traceidratio",
  "parentbased_always_on",
  "parentbased_always_off",
  "parentbased_traceidratio"
] as const

/** Whether the caller's span is from an untrusted source, whose sampled flag is ignored: an annotation of the span. */
export const IsUntrusted = Context.Reference<boolean>("layers/telemetry/Sampling/IsUntrusted", {
  defaultValue: () => false
})

/** Decides which traces are recorded. */
export interface Sampler {
  /** The parentbased samplers follow the sampled flag of the caller. Root spans use the sampler named after the prefix. */
  readonly name: (typeof names)[number]
  /** The share of traces that the ratio samplers record, from 0 to 1. */
  readonly ratio: number
}

/** A tracer that passes sampled spans to `recorder`. The sampled flag of untrusted callers is ignored. */
export const tracer = (recorder: Tracer.Tracer, sampler: Sampler): Tracer.Tracer =>
  new SamplingTracer(recorder, sampler)

/**
 * The non-recording span to use instead of a new span; undefined if the trace is recorded: the span must then be created with the
 * annotations {@link alreadySampled}. Use it to avoid creating options and attributes for a span that is not recorded.
 */
export const nonRecordingSpan = (
  tracer: Tracer.Tracer,
  parent: Tracer.AnySpan | undefined
): Tracer.AnySpan | undefined => (tracer instanceof SamplingTracer ? tracer.nonRecordingSpan(parent) : undefined)

const IsAlreadySampled = Context.Reference<boolean>("layers/telemetry/Sampling/IsAlreadySampled", {
  defaultValue: () => false
})

/** Annotations of a span for which {@link nonRecordingSpan} returned undefined, so that the decision is not made twice. */
export const alreadySampled: Context.Context<never> = Context.make(IsAlreadySampled, true)

type SpanOptions = Parameters<Tracer.Tracer["span"]>[0]

class SamplingTracer implements Tracer.Tracer {
  readonly context: Tracer.Tracer["context"]
  readonly #recorder: Tracer.Tracer
  readonly #ratio: number
  readonly #isSampled: (caller: Tracer.ExternalSpan | undefined) => boolean
  /** Whether sampling needs the trace id, so that the span must be created first. */
  readonly #needsTraceId: boolean

  constructor(recorder: Tracer.Tracer, sampler: Sampler) {
    this.context = recorder.context
    this.#recorder = recorder
    this.#ratio = sampler.ratio
    this.#isSampled = decide(sampler)
    this.#needsTraceId = sampler.name === "traceidratio"
  }

  span(options: SpanOptions): Tracer.Span {
    const parent = Option.getOrUndefined(options.parent)
    if (Context.get(options.annotations, IsAlreadySampled)) return this.#record(options)
    if (parent?._tag === "Span") {
      return parent.sampled && options.sampled ? this.#record(options) : new NonRecordingSpan(options, options.parent)
    }
    if (this.#needsTraceId && parent === undefined) {
      const span = this.#record(options)
      return isWithin(this.#ratio, span.traceId) ? span : new NonRecordingSpan(options, options.parent, span.traceId)
    }
    return this.#isSampled(parent) ? this.#record(options) : new NonRecordingSpan(options, options.parent)
  }

  nonRecordingSpan(parent: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined {
    if (parent?._tag === "Span") return parent.sampled ? undefined : parent
    // the span must be created for its trace id
    if (this.#needsTraceId && parent === undefined) return undefined
    if (this.#isSampled(parent)) return undefined
    // `_tag: "Span"` makes descendants inherit the decision
    return new NonRecordingSpan(unnamed, Option.fromUndefinedOr(parent))
  }

  #record(options: SpanOptions): Tracer.Span {
    return this.#recorder.span({ ...options, sampled: true })
  }
}

const decide = ({ name, ratio }: Sampler): ((caller: Tracer.ExternalSpan | undefined) => boolean) => {
  const isParentBased = name.startsWith("parentbased_")
  const own = name.endsWith("always_on")
    ? () => true
    : name.endsWith("always_off")
      ? () => false
      : (traceId: string | undefined) => isWithin(ratio, traceId)
  return (caller) => {
    const known = caller === undefined || Context.get(caller.annotations, IsUntrusted) ? undefined : caller
    return known !== undefined && isParentBased ? known.sampled : own(known?.traceId)
  }
}

/** Compares the last 56 bits of the trace id, which are random, so that all services with the same ratio make the same decision. */
const isWithin = (ratio: number, traceId: string | undefined): boolean =>
  (traceId === undefined ? Math.random() : Number.parseInt(traceId.slice(-14), 16) / 2 ** 56) < ratio

/** A non-recording span. Each call may have one, so it is small, and its ids are created on first use. */
class NonRecordingSpan implements Tracer.Span {
  readonly _tag = "Span"
  readonly sampled = false
  readonly parent: Option.Option<Tracer.AnySpan>
  readonly #options: Named
  #traceId: string | undefined
  #spanId: string | undefined

  constructor(options: Named, parent: Option.Option<Tracer.AnySpan>, traceId?: string) {
    this.parent = parent
    this.#options = options
    this.#traceId = traceId
  }

  get name(): string {
    return this.#options.name
  }

  get kind(): Tracer.SpanKind {
    return this.#options.kind
  }

  get annotations(): Context.Context<never> {
    return this.#options.annotations
  }

  get status(): Tracer.SpanStatus {
    return { _tag: "Started", startTime: this.#options.startTime }
  }

  get traceId(): string {
    return (this.#traceId ??= Option.isSome(this.parent) ? this.parent.value.traceId : Hex.random(32))
  }

  get spanId(): string {
    return (this.#spanId ??= Option.isSome(this.parent) ? this.parent.value.spanId : Hex.random(16))
  }

  get attributes(): ReadonlyMap<string, unknown> {
    return noAttributes
  }

  get links(): ReadonlyArray<Tracer.SpanLink> {
    return noLinks
  }

  end(): void {}
  attribute(): void {}
  event(): void {}
  addLinks(): void {}
}

type Named = Pick<SpanOptions, "annotations" | "kind" | "name" | "startTime">

const noAttributes: ReadonlyMap<string, unknown> = new Map()
const noLinks: ReadonlyArray<Tracer.SpanLink> = []
const unnamed: Named = { annotations: Context.empty(), kind: "internal", name: "", startTime: 0n }
