/**
 * Helpers for spans that are not managed by `Effect.withSpan`.
 */
import { Clock, Effect, Exit, type Tracer } from "effect"

/** Sets several attributes. */
export const setAttributes = (span: Tracer.Span, attributes: Readonly<Record<string, unknown>>): void => {
  for (const [key, value] of Object.entries(attributes)) span.attribute(key, value)
}

/** Ends a span at the current time. */
export const endSpan = (span: Tracer.Span, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
  Effect.map(Clock.Clock, (clock) => span.end(clock.currentTimeNanosUnsafe(), exit))

/** The exit for a span that failed with an error code: exporters show `name` as the type of the exception. */
export const errorExit = (name: string, message: string): Exit.Exit<never, unknown> => {
  const error: unknown = new NamedError(name, message)
  return Exit.fail(error)
}

class NamedError extends Error {
  constructor(name: string, message: string) {
    super(message)
    this.name = name
    // the stack would point to this constructor, not to the origin of the error
    delete this.stack
  }
}
