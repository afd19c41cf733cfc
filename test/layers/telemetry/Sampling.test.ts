import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Tracer } from "effect"

import * as Sampling from "../../../src/layers/telemetry/Sampling.ts"
import * as TraceContext from "../../../src/layers/telemetry/TraceContext.ts"
import * as Spans from "./Spans.ts"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"

const read = (headers: { readonly [name: string]: string }, isUntrusted = false) =>
  TraceContext.fromHeaders((name) => headers[name], { isUntrusted })

describe("Sampling", () => {
  const untrusted = read({ traceparent: `00-${traceId}-${spanId}-01` }, true)!
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
  ] as const)("implements $name", ({ name, ...expected }) =>
    Effect.gen(function* () {
      const sampler = { name, ratio: 0.5 }
      assert.strictEqual(yield* isRecorded(sampler, undefined), expected.root, "root")
      assert.strictEqual(yield* isRecorded(sampler, yes), expected.yes, "yes")
      assert.strictEqual(yield* isRecorded(sampler, no), expected.no, "no")
      // an untrusted caller counts as no caller
      assert.strictEqual(yield* isRecorded(sampler, untrusted), expected.root, "untrusted")
    })
  )

  it.effect.each([{ ratio: 0 }, { ratio: 0.1 }, { ratio: 1 }])("records the share $ratio of the traces", ({ ratio }) =>
    Effect.gen(function* () {
      for (const parent of [undefined, untrusted]) {
        let recorded = 0
        for (let i = 0; i < 2000; i++) {
          if (yield* isRecorded({ name: "parentbased_traceidratio", ratio }, parent)) recorded++
        }
        // within five standard deviations
        assert.closeTo(recorded / 2000, ratio, 5 * Math.sqrt((ratio * (1 - ratio)) / 2000))
      }
    })
  )

  it.effect("decides by the trace id with traceidratio, whatever the caller's flag", () =>
    Effect.gen(function* () {
      const at = (low: string) => read({ traceparent: `00-${traceId.slice(0, 18)}${low}-${spanId}-00` })!
      const sampler = { name: "traceidratio", ratio: 0.5 } as const
      assert.isTrue(yield* isRecorded(sampler, at("00000000000000")))
      assert.isTrue(yield* isRecorded(sampler, at("7ffffffffff000")))
      assert.isFalse(yield* isRecorded(sampler, at("80000000000000")))
      assert.isFalse(yield* isRecorded(sampler, at("ffffffffffffff")))
    })
  )

  it.effect("makes non-recording spans below a span that is not recorded", () =>
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
