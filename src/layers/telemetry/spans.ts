/**
 * What all that make spans for calls have in common.
 */
import { Clock, Effect, Exit, type Tracer } from "effect"

/** Sets all of some attributes. */
export const setAttributes = (span: Tracer.Span, attributes: Readonly<Record<string, unknown>>): void => {
  for (const [key, value] of Object.entries(attributes)) span.attribute(key, value)
}

/** Ends a span now. */
export const endSpan = (span: Tracer.Span, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
  Effect.map(Clock.Clock, (clock) => span.end(clock.currentTimeNanosUnsafe(), exit))

/** The exit of a call that ended with an error that has a name, for whoever shows spans. */
export const errorExit = (name: string, message: string): Exit.Exit<never, unknown> => {
  const error: unknown = new NamedError(name, message)
  return Exit.fail(error)
}

class NamedError extends Error {
  constructor(name: string, message: string) {
    super(message)
    this.name = name
    // where it was made says nothing of where it comes from
    delete this.stack
  }
}
