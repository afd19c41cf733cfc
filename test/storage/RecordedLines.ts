import { Effect, Logger, Queue, References } from "effect"

export interface Line {
  readonly message: string
  readonly reason: unknown
}

/** A logger that puts the lines at Info and above into a queue. */
export const recordLines = () => {
  const lines = Effect.runSync(Queue.unbounded<Line>())
  const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
    if (logLevel === "Debug") return
    const { reason } = fiber.getRef(References.CurrentLogAnnotations)
    Queue.offerUnsafe(lines, { message: String(Array.isArray(message) ? message[0] : message), reason })
  })
  return { lines, layer: Logger.layer([logger]) }
}
