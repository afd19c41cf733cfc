/**
 * An error that nobody has foreseen, on its way to whoever wants to hear of it: Effect's {@link ErrorReporter}s, which would take
 * every failure, and give bugs no severity.
 */
import { Cause, Effect, ErrorReporter, Predicate } from "effect"

/**
 * A bug, or a failure that no caller is to blame for. It has the message and the stack of what was thrown, which is its cause, and
 * tells reporters what it happened to.
 */
export class UnexpectedError extends Error {
  override readonly [ErrorReporter.severity] = "Error"
  override readonly [ErrorReporter.attributes]: Readonly<Record<string, unknown>>

  constructor(cause: unknown, attributes: Readonly<Record<string, unknown>>) {
    super(Predicate.hasProperty(cause, "message") ? String(cause.message) : String(cause), { cause })
    this.name = Predicate.hasProperty(cause, "name") ? String(cause.name) : "UnexpectedError"
    if (Predicate.hasProperty(cause, "stack")) this.stack = String(cause.stack)
    this[ErrorReporter.attributes] = attributes
  }
}

/** One for each thing that was thrown, so that reporters know it again. */
const known = new WeakMap<object, UnexpectedError>()

/** Reports the defects of a cause, and the failures in it that are unexpected, if there is anybody to report to. */
export const report = <E>(
  cause: Cause.Cause<E>,
  attributes: () => Readonly<Record<string, unknown>>,
  isUnexpected: (error: E) => boolean
): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    if (fiber.getRef(ErrorReporter.CurrentErrorReporters).size === 0) return Effect.void
    const reasons = cause.reasons.flatMap((reason) => {
      if (Cause.isDieReason(reason)) return [reason.defect]
      return Cause.isFailReason(reason) && isUnexpected(reason.error) ? [reason.error] : []
    })
    return Effect.forEach(reasons, (thrown) => ErrorReporter.report(Cause.die(wrap(thrown, attributes()))), {
      discard: true
    })
  })

const wrap = (thrown: unknown, attributes: Readonly<Record<string, unknown>>): UnexpectedError => {
  if (typeof thrown !== "object" || thrown === null) return new UnexpectedError(thrown, attributes)
  let error = known.get(thrown)
  if (error === undefined) known.set(thrown, (error = new UnexpectedError(thrown, attributes)))
  return error
}
