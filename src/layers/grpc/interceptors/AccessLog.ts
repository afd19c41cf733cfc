/**
 * The access log of a server: one line for each call. Success is logged at Debug, an error of the caller at Info, and an error of the
 * server at Error with its cause.
 */
import { Cause, Effect, Exit, type LogLevel } from "effect"

import * as Logging from "../../telemetry/Logging.ts"
import * as LogRateLimiter from "../../telemetry/LogRateLimiter.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { ServerCall, ServerInterceptor } from "../GrpcInterceptor.ts"
import * as Status from "../Status.ts"

/** Logs the end of each call, within its span. Failures above the rate limit are counted and not logged. */
export const server: ServerInterceptor = {
  onEnd: (call, exit, status, context) => {
    const defects = Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? exit.cause : undefined
    const level = status === undefined ? "Debug" : defects === undefined ? levelOf(call, status) : "Error"
    if (!Logging.isEnabled(level, context)) return
    const line = Effect.suspend(() => lineOf(call, status, level, defects))
    // the rate limit does not hold for defects: clients know them by the id in their line
    return status === undefined || defects !== undefined
      ? line
      : (level === "Error" ? serverErrors : callerErrors).log(line)
  }
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
  const failure = level === "Error" && call.failure !== undefined ? Cause.fail(call.failure) : undefined
  const cause = defects ?? failure
  return Effect.logWithLevel(level)(message, ...(cause === undefined ? [] : [cause])).pipe(
    Effect.annotateLogs({
      method: call.name,
      code: status?._tag ?? "OK",
      durationMs: Math.round((performance.now() - call.startedAt) * 1000) / 1000,
      ...PeerIdentity.annotations(call.peer),
      ...(defects === undefined ? {} : { requestId: call.id })
    })
  )
}
