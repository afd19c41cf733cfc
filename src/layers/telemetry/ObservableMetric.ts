/**
 * Metrics of what is known anyway, read when somebody asks for them and at no cost in between.
 */
import { Effect, Metric, type Scope } from "effect"

/** A value that goes up and down, for as long as the scope is open. */
export const gauge = (
  name: string,
  description: string,
  value: () => number,
  attributes: Record<string, string> = {}
): Effect.Effect<void, never, Scope.Scope> =>
  register(Metric.gauge(name, { description, attributes }), () => ({ value: value() }))

/** A value that only goes up, for as long as the scope is open. */
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
