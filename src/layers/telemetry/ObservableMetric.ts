/**
 * Metrics whose values are read by a callback when they are collected, like OpenTelemetry's asynchronous instruments. Use them for
 * values that the program already maintains.
 */
import { Effect, Metric, type Scope } from "effect"

/** Registers a gauge until the scope closes. */
export const gauge = (
  name: string,
  description: string,
  value: () => number,
  attributes: Record<string, string> = {}
): Effect.Effect<void, never, Scope.Scope> =>
  register(Metric.gauge(name, { description, attributes }), () => ({ value: value() }))

/** The name of a gauge, its description, and its value. */
export type Gauge = readonly [name: string, description: string, value: () => number]

/** Registers several gauges with the same attributes. */
export const gauges = (all: ReadonlyArray<Gauge>, attributes?: Record<string, string>) =>
  Effect.forEach(all, ([name, description, value]) => gauge(name, description, value, attributes), { discard: true })

/** Registers a counter until the scope closes. Its value must never decrease. */
export const counter = (
  name: string,
  description: string,
  count: () => number,
  attributes: Record<string, string> = {}
): Effect.Effect<void, never, Scope.Scope> =>
  register(Metric.counter(name, { description, attributes, incremental: true }), () => ({
    count: count(),
    incremental: true
  }))

const register = <Input, State>(metric: Metric.Metric<Input, State>, get: () => State) =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.map(Effect.context<never>(), (context) =>
        Metric.registerUnsafe(metric, context, { get, update: () => {}, modify: () => {} })
      ),
      ({ remove }) => Effect.sync(remove)
    )
  )
