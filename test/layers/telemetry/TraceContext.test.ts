import { assert, describe, it } from "@effect/vitest"
import { Effect, Tracer } from "effect"

import * as TraceContext from "../../../src/layers/telemetry/TraceContext.ts"
import * as Spans from "./Spans.ts"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"

const read = (headers: { readonly [name: string]: string }, isUntrusted = false) =>
  TraceContext.fromHeaders((name) => headers[name], { isUntrusted })

describe("fromHeaders", () => {
  it.each([
    { what: "sampled", traceparent: `00-${traceId}-${spanId}-01`, sampled: true },
    { what: "not sampled", traceparent: `00-${traceId}-${spanId}-00`, sampled: false },
    { what: "unknown flags", traceparent: `00-${traceId}-${spanId}-03`, sampled: true },
    { what: "a later version", traceparent: `cc-${traceId}-${spanId}-01-what-the-future-will-be`, sampled: true }
  ])("parses traceparent: $what", ({ sampled, traceparent }) => {
    const span = read({ traceparent })
    assert.deepStrictEqual([span?.traceId, span?.spanId, span?.sampled], [traceId, spanId, sampled])
  })

  it.each([
    { what: "empty", traceparent: "" },
    { what: "garbage", traceparent: "zzz9" },
    { what: "the invalid version ff", traceparent: `ff-${traceId}-${spanId}-01` },
    { what: "a suffix in version 00", traceparent: `00-${traceId}-${spanId}-01-more` },
    { what: "an all-zero trace id", traceparent: `00-${"0".repeat(32)}-${spanId}-01` },
    { what: "an all-zero span id", traceparent: `00-${traceId}-${"0".repeat(16)}-01` },
    { what: "upper case", traceparent: `00-${traceId.toUpperCase()}-${spanId}-01` },
    { what: "a short id", traceparent: `00-${traceId.slice(1)}-${spanId}-01` },
    { what: "two values", traceparent: `00-${traceId}-${spanId}-01,00-${traceId}-${spanId}-01` }
  ])("ignores an invalid traceparent: $what", ({ traceparent }) => {
    assert.isUndefined(read({ traceparent }))
  })

  it("ignores the sampled flag of an untrusted caller", () => {
    assert.isFalse(read({ traceparent: `00-${traceId}-${spanId}-01` }, true)?.sampled)
  })
})

describe("toHeaders", () => {
  const sent = (span: Tracer.AnySpan, tracer: Tracer.Tracer = Spans.recorder().tracer) =>
    Effect.map(Effect.context<never>(), TraceContext.toHeaders).pipe(
      Effect.provideService(Tracer.ParentSpan, span),
      Effect.provideService(Tracer.Tracer, tracer)
    )

  it.effect.each([
    { state: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", expected: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE" },
    { state: `a=${"1".repeat(600)}`, expected: undefined },
    { state: "a=\u00e9", expected: undefined }
  ])("forwards a valid tracestate unchanged: $state", ({ expected, state }) =>
    Effect.gen(function* () {
      const span = read({ traceparent: `00-${traceId}-${spanId}-01`, tracestate: state })!
      assert.deepStrictEqual(yield* sent(span), { traceparent: `00-${traceId}-${spanId}-01`, tracestate: expected })
    })
  )

  it.effect("is undefined outside of traces", () =>
    Effect.gen(function* () {
      assert.isUndefined(yield* Effect.map(Effect.context<never>(), TraceContext.toHeaders))
      // and within spans of the native tracer, which are never exported
      assert.isUndefined(yield* Effect.withSpan(Effect.map(Effect.context<never>(), TraceContext.toHeaders), "unseen"))
    })
  )
})

it.effect("toHeaders propagates the caller's span where tracing is disabled", () =>
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
