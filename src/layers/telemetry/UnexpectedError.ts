/**
 * An error that nobody has foreseen, on its way to whoever wants to hear of it: Effect's {@link ErrorReporter}s, which would take
 * every failure, and give bugs no severity.
 */
import { Cause, Effect, ErrorReporter, Option } from "effect"

/**
 * A bug, or a failure that no caller is to blame for. It has the message and the stack of what was thrown, which is its cause, and
 * tells reporters what it happened to.
 */
export class UnexpectedError extends Error {
  override readonly [ErrorReporter.severity] = "Error"
  override readonly [ErrorReporter.attributes]: Readonly<Record<string, unknown>>

  constructor(cause: unknown, attributes: Readonly<Record<string, unknown>>) {
    // what was thrown need not be an Error, nor even have a text
    const [error] = Cause.prettyErrors(Cause.die(cause))
    super(error?.message, { cause })
    this.name = error?.name ?? "UnexpectedError"
    if (error?.stack !== undefined) this.stack = error.stack
    this[ErrorReporter.attributes] = attributes
  }
}

/** One for each bug, so that reporters know it again that happens in several places. */
const known = new WeakMap<object, UnexpectedError>()

/** Reports the defects of a cause, and what is unexpected of the failures in it, if there is anybody to report to. */
export const report = <E>(
  cause: Cause.Cause<E>,
  attributes: () => Readonly<Record<string, unknown>>,
  unexpected: (error: E) => Option.Option<unknown>
): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    if (fiber.getRef(ErrorReporter.CurrentErrorReporters).size === 0) return Effect.void
    const errors = cause.reasons.flatMap((reason) => {
      if (Cause.isDieReason(reason)) return [wrap(reason.defect, attributes())]
      // what a table makes of errors may be one value for all of them
      return Cause.isFailReason(reason)
        ? Option.toArray(Option.map(unexpected(reason.error), (error) => new UnexpectedError(error, attributes())))
        : []
    })
    return Effect.forEach(
      errors,
      (error) =>
        Effect.suspend(() => ErrorReporter.report(Cause.die(error))).pipe(
          // what is wrong with the report is not to become of what is reported
          Effect.catchCause((cause) => Effect.logError("An error reporter fails", cause))
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
