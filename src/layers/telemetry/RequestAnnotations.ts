/**
 * Annotations that a server adds to the log lines of the request being handled, such as its peer. They are computed from the fiber's
 * context when a line is written, so a request without log lines incurs no cost.
 */
import { Context } from "effect"

/** Returns the annotations for a line logged in a context; undefined outside of requests. A server provides it to its handlers. */
export const RequestAnnotations = Context.Reference<
  (context: Context.Context<never>) => Readonly<Record<string, unknown>> | undefined
>("layers/telemetry/RequestAnnotations", { defaultValue: () => () => undefined })
