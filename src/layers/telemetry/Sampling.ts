/**
 * Which traces are recorded, by OpenTelemetry's samplers
 * (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
 *
 * The decision is made where a trace comes into the process, and holds for all spans below. A span that is not recorded costs next
 * to nothing: it takes no notes, and stands for the one that it is in. Its context goes on all the same, so that whoever is called
 * knows that the decision has been made.
 */
import { Context, Effect, Option, Tracer } from "effect"
import { Hex } from "effect/encoding"

import * as TraceContext from "./TraceContext.ts"

/** The names of the samplers that there are. */
export const names = [
  "always_on",
  "always_off",
  "traceidratio",
  "parentbased_always_on",
  "parentbased_always_off",
  "parentbased_traceidratio"
] as const

export interface Sampler {
  /** One that is based on the parent does what the caller does, and decides by itself where there is none. */
  readonly name: (typeof names)[number]
  /** Of a `traceidratio`: how many of the traces are recorded, from 0 to 1. */
  readonly ratio: number
}

/** A tracer that has those spans recorded that a sampler picks. What foreign callers want recorded counts for nothing. */
export const tracer = (recorder: Tracer.Tracer, sampler: Sampler): Tracer.Tracer =>
  new SamplingTracer(recorder, sampler)

/**
 * What stands for a span where the trace is not recorded, so that none has to be made; undefined where it is, and it is to be one
 * with {@link alreadySampled}.
 */
export const nonRecordingSpan = (
  tracer: Tracer.Tracer,
  parent: Tracer.AnySpan | undefined
): Tracer.AnySpan | undefined => (tracer instanceof SamplingTracer ? tracer.nonRecordingSpan(parent) : undefined)

const IsAlreadySampled = Context.Reference<boolean>("layers/telemetry/Sampling/IsAlreadySampled", {
  defaultValue: () => false
})

/** The annotations of a span of which {@link nonRecordingSpan} has said that it is recorded. */
export const alreadySampled: Context.Context<never> = Context.make(IsAlreadySampled, true)

type SpanOptions = Parameters<Tracer.Tracer["span"]>[0]

class SamplingTracer implements Tracer.Tracer {
  readonly context: Tracer.Tracer["context"]
  readonly #recorder: Tracer.Tracer
  readonly #ratio: number
  readonly #isSampled: (caller: Tracer.ExternalSpan | undefined) => boolean
  /** Others decide by the id of a trace too, which has to be there first. */
  readonly #isByTrace: boolean

  constructor(recorder: Tracer.Tracer, sampler: Sampler) {
    this.context = recorder.context
    this.#recorder = recorder
    this.#ratio = sampler.ratio
    this.#isSampled = decide(sampler)
    this.#isByTrace = sampler.name === "traceidratio"
  }

  span(options: SpanOptions): Tracer.Span {
    const parent = Option.getOrUndefined(options.parent)
    if (Context.get(options.annotations, IsAlreadySampled)) return this.#record(options)
    if (parent?._tag === "Span") {
      return parent.sampled && options.sampled ? this.#record(options) : new NonRecordingSpan(options, options.parent)
    }
    if (this.#isByTrace && parent === undefined) {
      const span = this.#record(options)
      return isWithin(this.#ratio, span.traceId) ? span : new NonRecordingSpan(options, options.parent, span.traceId)
    }
    return this.#isSampled(parent) ? this.#record(options) : new NonRecordingSpan(options, options.parent)
  }

  nonRecordingSpan(parent: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined {
    if (parent?._tag === "Span") return parent.sampled ? undefined : parent
    // it is made, and then seen
    if (this.#isByTrace && parent === undefined) return undefined
    if (this.#isSampled(parent)) return undefined
    // what is below it is not to be decided on again
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
    const known = caller === undefined || Context.get(caller.annotations, TraceContext.IsUntrusted) ? undefined : caller
    return known !== undefined && isParentBased ? known.sampled : own(known?.traceId)
  }
}

/** By the last 56 bits of the trace's id, which are random, so that all that have the same ratio decide alike. */
const isWithin = (ratio: number, traceId: string | undefined): boolean =>
  (traceId === undefined ? Math.random() : Number.parseInt(traceId.slice(-14), 16) / 2 ** 56) < ratio

/** A span around what is done within a trace that is recorded, and nothing at all elsewhere: for what is done often. */
export const withSpan =
  (name: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      const { span, tracer } = fiber.cache
      const isRecorded = span?._tag === "Span" && span.sampled && tracer !== undefined && tracer !== Tracer.nativeTracer
      return isRecorded ? Effect.withSpan(effect, name, { captureStackTrace: false }) : effect
    })

/** A span that is not recorded. There may be one for each call, so it is little, and ids are made when they are asked for. */
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
