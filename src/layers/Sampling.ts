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
export const tracer = (recorder: Tracer.Tracer, sampler: Sampler): Tracer.Tracer => {
  const isSampled = decide(sampler)
  const isByTrace = sampler.name === "traceidratio"
  const record = (options: Parameters<Tracer.Tracer["span"]>[0]) => recorder.span({ ...options, sampled: true })
  return Tracer.make({
    ...recorder,
    span: (options) => {
      const parent = Option.getOrUndefined(options.parent)
      if (parent?._tag === "Span") return parent.sampled && options.sampled ? record(options) : new PassingSpan(options)
      if (isByTrace && parent === undefined) {
        // others decide by the id too, which it is to be given first
        const span = record(options)
        return isWithin(sampler.ratio, span.traceId) ? span : new PassingSpan(options, span.traceId)
      }
      return isSampled(parent) ? record(options) : new PassingSpan(options)
    }
  })
}

const decide = ({ name, ratio }: Sampler): ((caller: Tracer.ExternalSpan | undefined) => boolean) => {
  const isParentBased = name.startsWith("parentbased_")
  const own = name.endsWith("always_on")
    ? () => true
    : name.endsWith("always_off")
      ? () => false
      : (traceId: string | undefined) => isWithin(ratio, traceId)
  return (caller) => {
    const known = caller === undefined || Context.get(caller.annotations, TraceContext.IsForeign) ? undefined : caller
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

/** A span that is not recorded. */
class PassingSpan implements Tracer.Span {
  readonly _tag = "Span"
  readonly name: string
  readonly kind: Tracer.SpanKind
  readonly parent: Option.Option<Tracer.AnySpan>
  readonly annotations: Context.Context<never>
  readonly sampled = false
  readonly links = []
  status: Tracer.SpanStatus
  #traceId: string | undefined
  #spanId: string | undefined

  constructor(options: Parameters<Tracer.Tracer["span"]>[0], traceId?: string) {
    this.#traceId = traceId
    this.name = options.name
    this.kind = options.kind
    this.parent = options.parent
    this.annotations = options.annotations
    this.status = { _tag: "Started", startTime: options.startTime }
  }

  get traceId(): string {
    return (this.#traceId ??= Option.isSome(this.parent) ? this.parent.value.traceId : Hex.random(32))
  }

  get spanId(): string {
    return (this.#spanId ??= Option.isSome(this.parent) ? this.parent.value.spanId : Hex.random(16))
  }

  get attributes(): ReadonlyMap<string, unknown> {
    return none
  }

  end = () => {}
  attribute = () => {}
  event = () => {}
  addLinks = () => {}
}

const none: ReadonlyMap<string, unknown> = new Map()
