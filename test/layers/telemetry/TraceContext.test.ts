import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Tracer } from "effect"

import * as Sampling from "../../../src/layers/telemetry/Sampling.ts"
import * as TraceContext from "../../../src/layers/telemetry/TraceContext.ts"
import * as Spans from "./Spans.ts"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"

const read = (headers: { readonly [name: string]: string }, isUntrusted = false) =>
  TraceContext.fromHeaders((name) => headers[name], { isUntrusted })

describe("traceparent", () => {
  it.each([
    { what: "recorded", traceparent: `00-${traceId}-${spanId}-01`, sampled: true },
    { what: "not recorded", traceparent: `00-${traceId}-${spanId}-00`, sampled: false },
    { what: "with flags to come", traceparent: `00-${traceId}-${spanId}-03`, sampled: true },
    { what: "of a version to come", traceparent: `cc-${traceId}-${spanId}-01-what-the-future-will-be`, sampled: true }
  ])("is understood: $what", ({ sampled, traceparent }) => {
    const span = read({ traceparent })
    assert.deepStrictEqual([span?.traceId, span?.spanId, span?.sampled], [traceId, spanId, sampled])
  })

  it.each([
    { what: "nothing", traceparent: "" },
    { what: "something else", traceparent: "zzz9" },
    { what: "the version that never will be", traceparent: `ff-${traceId}-${spanId}-01` },
    { what: "more than this version has", traceparent: `00-${traceId}-${spanId}-01-more` },
    { what: "no trace", traceparent: `00-${"0".repeat(32)}-${spanId}-01` },
    { what: "no span", traceparent: `00-${traceId}-${"0".repeat(16)}-01` },
    { what: "capitals", traceparent: `00-${traceId.toUpperCase()}-${spanId}-01` },
    { what: "an id too short", traceparent: `00-${traceId.slice(1)}-${spanId}-01` },
    { what: "two of them", traceparent: `00-${traceId}-${spanId}-01,00-${traceId}-${spanId}-01` }
  ])("is taken for none: $what", ({ traceparent }) => {
    assert.isUndefined(read({ traceparent }))
  })

  it("of a stranger does not say whether to record", () => {
    assert.isFalse(read({ traceparent: `00-${traceId}-${spanId}-01` }, true)?.sampled)
  })
})

describe("what is sent", () => {
  const sent = (span: Tracer.AnySpan, tracer: Tracer.Tracer = Spans.recorder().tracer) =>
    Effect.map(Effect.context<never>(), TraceContext.toHeaders).pipe(
      Effect.provideService(Tracer.ParentSpan, span),
      Effect.provideService(Tracer.Tracer, tracer)
    )

  it.effect.each([
    { state: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", expected: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE" },
    { state: `a=${"1".repeat(600)}`, expected: undefined },
    { state: "a=\u00e9", expected: undefined }
  ])("is the tracestate as it came, if it may be: $state", ({ expected, state }) =>
    Effect.gen(function* () {
      const span = read({ traceparent: `00-${traceId}-${spanId}-01`, tracestate: state })!
      assert.deepStrictEqual(yield* sent(span), { traceparent: `00-${traceId}-${spanId}-01`, tracestate: expected })
    })
  )

  it.effect("is nothing outside of every trace", () =>
    Effect.gen(function* () {
      assert.isUndefined(yield* Effect.map(Effect.context<never>(), TraceContext.toHeaders))
      // nor of spans that nobody gets to see
      assert.isUndefined(yield* Effect.withSpan(Effect.map(Effect.context<never>(), TraceContext.toHeaders), "unseen"))
    })
  )
})

describe("a sampler", () => {
  const foreign = read({ traceparent: `00-${traceId}-${spanId}-01` }, true)!
  const yes = read({ traceparent: `00-${traceId}-${spanId}-01` })!
  const no = read({ traceparent: `00-${traceId}-${spanId}-00` })!

  const isRecorded = (sampler: Sampling.Sampler, parent: Tracer.AnySpan | undefined) =>
    Effect.map(
      Effect.makeSpan("span", parent === undefined ? { root: true } : { parent }).pipe(
        Effect.provideService(Tracer.Tracer, Sampling.tracer(Spans.recorder().tracer, sampler))
      ),
      ({ sampled }) => sampled
    )

  it.effect.each([
    { name: "always_on", root: true, yes: true, no: true },
    { name: "always_off", root: false, yes: false, no: false },
    { name: "parentbased_always_on", root: true, yes: true, no: false },
    { name: "parentbased_always_off", root: false, yes: true, no: false }
  ] as const)("does what $name says", ({ name, ...expected }) =>
    Effect.gen(function* () {
      const sampler = { name, ratio: 0.5 }
      assert.strictEqual(yield* isRecorded(sampler, undefined), expected.root, "root")
      assert.strictEqual(yield* isRecorded(sampler, yes), expected.yes, "yes")
      assert.strictEqual(yield* isRecorded(sampler, no), expected.no, "no")
      // a stranger is as good as nobody
      assert.strictEqual(yield* isRecorded(sampler, foreign), expected.root, "foreign")
    })
  )

  it.effect.each([{ ratio: 0 }, { ratio: 0.1 }, { ratio: 1 }])("records a part of the traces: $ratio", ({ ratio }) =>
    Effect.gen(function* () {
      for (const parent of [undefined, foreign]) {
        let recorded = 0
        for (let i = 0; i < 2000; i++) {
          if (yield* isRecorded({ name: "parentbased_traceidratio", ratio }, parent)) recorded++
        }
        // five times what is left to chance
        assert.closeTo(recorded / 2000, ratio, 5 * Math.sqrt((ratio * (1 - ratio)) / 2000))
      }
    })
  )

  it.effect("that goes by the trace decides the same for each of its spans, whoever calls", () =>
    Effect.gen(function* () {
      const at = (low: string) => read({ traceparent: `00-${traceId.slice(0, 18)}${low}-${spanId}-00` })!
      const sampler = { name: "traceidratio", ratio: 0.5 } as const
      assert.isTrue(yield* isRecorded(sampler, at("00000000000000")))
      assert.isTrue(yield* isRecorded(sampler, at("7ffffffffff000")))
      assert.isFalse(yield* isRecorded(sampler, at("80000000000000")))
      assert.isFalse(yield* isRecorded(sampler, at("ffffffffffffff")))
    })
  )

  it.effect("leaves what is below to the span that has been decided on", () =>
    Effect.gen(function* () {
      const { spans, tracer } = Spans.recorder()
      const outer = Effect.withSpan(Effect.withSpan(Effect.orDie(Effect.currentSpan), "inner"), "outer", { parent: no })
      const inner = yield* Effect.provideService(
        outer,
        Tracer.Tracer,
        Sampling.tracer(tracer, { name: "parentbased_always_on", ratio: 1 })
      )
      assert.deepStrictEqual(spans, [])
      assert.deepStrictEqual(
        [inner.name, inner.sampled, inner.traceId, inner.spanId],
        ["inner", false, traceId, spanId]
      )
      inner.attribute("a", 1)
      inner.end(0n, Exit.void)
      assert.strictEqual(inner.attributes.size, 0)
      assert.isTrue(Option.isSome(inner.parent))
    })
  )
})

it.effect("where tracing is switched off, what is sent is the caller's", () =>
  Effect.gen(function* () {
    const span = read({ traceparent: `00-${traceId}-${spanId}-01` })!
    const sent = yield* Effect.map(Effect.context<never>(), TraceContext.toHeaders).pipe(
      Effect.withSpan("off"),
      Effect.withTracerEnabled(false),
      Effect.provideService(Tracer.ParentSpan, span),
      Effect.provideService(Tracer.Tracer, Spans.recorder().tracer)
    )
    assert.strictEqual(sent?.traceparent, `00-${traceId}-${spanId}-01`)
  })
)
