/**
 * The access log of a server, and its report of unexpected errors.
 *
 * Each call has a line: success is logged at Debug, an error of the caller at Info, and an error of the server at Error with its cause.
 * Unexpected errors of handlers are also passed to Effect's {@link ErrorReporter}, for an error tracker such as Sentry:
 *
 * ```ts
 * ErrorReporter.layer([ErrorReporter.make(({ attributes, error }) => Sentry.captureException(error, { extra: attributes }))])
 * ```
 */
import { Cause, type Context, Effect, Exit, type LogLevel, Option } from "effect"

import * as Logging from "../../telemetry/Logging.ts"
import * as LogRateLimiter from "../../telemetry/LogRateLimiter.ts"
import * as UnexpectedError from "../../telemetry/UnexpectedError.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { ServerCall, ServerInterceptor } from "../GrpcInterceptor.ts"
import * as Status from "../Status.ts"

/** Logs the end of each call, and reports unexpected errors, within the span of the call. */
export const server: ServerInterceptor = {
  onEnd: (call, exit, status, context) => {
    if (Exit.isFailure(exit) && status !== undefined) return onFailure(call, exit.cause, status, context)
    return Logging.isEnabled("Debug", context)
      ? Effect.suspend(() => lineOf(call, undefined, "Debug", undefined))
      : undefined
  }
}

/** Failures above the rate limit are counted and not logged. */
const onFailure = (
  call: ServerCall,
  cause: Cause.Cause<Status.Status>,
  status: Status.Status,
  context: Context.Context<never>
): Effect.Effect<void> => {
  const defects = Cause.hasDies(cause) ? cause : undefined
  const level = defects === undefined ? levelOf(call, status) : "Error"
  const reported = report(call, cause)
  if (!Logging.isEnabled(level, context)) return reported
  const line = Effect.suspend(() => lineOf(call, status, level, defects))
  // the rate limit does not hold for defects: clients know them by the id in their line
  const logged = defects === undefined ? (level === "Error" ? serverErrors : callerErrors).log(line) : line
  return Effect.ensuring(logged, reported)
}

// two limits, so that callers cannot suppress the errors of the server
const serverErrors = LogRateLimiter.make("failed gRPC calls")
const callerErrors = LogRateLimiter.make("failed gRPC calls")

/**
 * A call that reaches no handler is an error of its caller, whatever status grpc-js gives it. So is a Stream of responses that exceeds its
 * deadline, since the caller decides how long it reads.
 */
const levelOf = (call: ServerCall, status: Status.Status): LogLevel.Severity => {
  if (!Status.isServerError(status) || call.isRejected) return "Info"
  const isStream = call.kind === "serverStream" || call.kind === "bidi"
  return isStream && status._tag === "DeadlineExceeded" ? "Info" : "Error"
}

const lineOf = (
  call: ServerCall,
  status: Status.Status | undefined,
  level: LogLevel.Severity,
  defects: Cause.Cause<unknown> | undefined
): Effect.Effect<void> => {
  const message =
    defects !== undefined
      ? "Unexpected error in a gRPC handler"
      : status === undefined
        ? "gRPC call completed"
        : `gRPC call failed: ${status.message}`
  const failure = level === "Error" ? call.failure : undefined
  // a service that cannot do its work for a while says why, and where in the code is of no interest
  const explanation = status?._tag === "Unavailable" && failure instanceof Error ? failure.message : ""
  const reason = explanation === status?.message ? "" : explanation
  const cause = defects ?? (failure === undefined || reason !== "" ? undefined : Cause.fail(failure))
  return Effect.logWithLevel(level)(message, ...(cause === undefined ? [] : [cause])).pipe(
    Effect.annotateLogs({
      method: call.name,
      code: status?._tag ?? "OK",
      durationMs: Math.round((performance.now() - call.startedAt) * 1000) / 1000,
      ...PeerIdentity.annotations(call.peer),
      ...(reason === "" ? {} : { reason }),
      ...(defects === undefined ? {} : { requestId: call.id })
    })
  )
}

/** Reports defects, and failures whose status is INTERNAL, UNKNOWN or DATA_LOSS, each once and with its call. */
const report = (call: ServerCall, cause: Cause.Cause<Status.Status>): Effect.Effect<void> => {
  const attributes = () => ({
    method: call.name,
    // the response and the log line have it, too
    ...(Cause.hasDies(cause) ? { requestId: call.id } : {}),
    ...PeerIdentity.annotations(call.peer)
  })
  return UnexpectedError.report(cause, attributes, (status) =>
    // a call that reached no handler is an error of its caller, whatever status grpc-js gives it
    !call.isRejected && unexpected.has(status._tag) ? Option.some(call.failure ?? status) : Option.none()
  )
}

const unexpected: ReadonlySet<string> = new Set(["Internal", "Unknown", "DataLoss"])
