/**
 * Reports defects and unexpected failures to Effect's {@link ErrorReporter}s. ErrorReporter alone would also report expected failures, and
 * defects without a severity.
 */
import { Cause, Effect, ErrorReporter, Option } from "effect"

/**
 * A defect, or a failure that is not the caller's fault. It has the message and the stack of the thrown value, which is its cause, and
 * attributes for reporters, such as the method.
 */
export class UnexpectedError extends Error {
  override readonly [ErrorReporter.severity] = "Error"
  override readonly [ErrorReporter.attributes]: Readonly<Record<string, unknown>>

  constructor(cause: unknown, attributes: Readonly<Record<string, unknown>>) {
    // the thrown value may be anything, even without a string representation
    const [error] = Cause.prettyErrors(Cause.die(cause))
    super(error?.message, { cause })
    this.name = error?.name ?? "UnexpectedError"
    if (error?.stack !== undefined) this.stack = error.stack
    this[ErrorReporter.attributes] = attributes
  }
}

/** Caches the error of each thrown object, so that reporters can recognize one that they receive twice. */
const known = new WeakMap<object, UnexpectedError>()

/** Reports the defects of a cause, and its failures for which `unexpected` returns an error. Does nothing without reporters. */
export const report = <E>(
  cause: Cause.Cause<E>,
  attributes: () => Readonly<Record<string, unknown>>,
  unexpected: (error: E) => Option.Option<unknown>
): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    if (fiber.getRef(ErrorReporter.CurrentErrorReporters).size === 0) return Effect.void
    const errors = cause.reasons.flatMap((reason) => {
      if (Cause.isDieReason(reason)) return [wrap(reason.defect, attributes())]
      // not cached: `unexpected` may return the same value for different failures
      return Cause.isFailReason(reason)
        ? Option.toArray(Option.map(unexpected(reason.error), (error) => new UnexpectedError(error, attributes())))
        : []
    })
    return Effect.forEach(
      errors,
      (error) =>
        Effect.suspend(() => ErrorReporter.report(Cause.die(error))).pipe(
          // a failing reporter must not fail the request
          Effect.catchCause((cause) => Effect.logError("Error reporter failed", cause))
        ),
      { discard: true }
    )
  })

const wrap = (thrown: unknown, attributes: Readonly<Record<string, unknown>>): UnexpectedError => {
  if (typeof thrown !== "object" || thrown === null) return new UnexpectedError(thrown, attributes)
  let error = known.get(thrown)
  if (error === undefined) known.set(thrown, (error = new UnexpectedError(thrown, attributes)))
  return error
}
