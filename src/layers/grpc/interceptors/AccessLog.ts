/**
 * A line for each call: at Debug one that went well, at Info one that its caller got wrong, and at Error, with the whole cause, one
 * that this side got wrong.
 */
import { Cause, Effect, Exit, type LogLevel } from "effect"

import * as Logging from "../../telemetry/Logging.ts"
import * as LogRateLimiter from "../../telemetry/LogRateLimiter.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { GrpcCall } from "../GrpcCall.ts"
import type { ServerInterceptor } from "../GrpcInterceptor.ts"
import * as Status from "../Status.ts"

/** Logs how each call ended, within its span. Of many failures in one second some are left out, and counted. */
export const server: ServerInterceptor = {
  onEnd: (call, exit, status, context) => {
    // a failure may come with a bug, as of what should clean up after it
    const level = isBug(exit) ? "Error" : levelOf(call, status)
    if (!Logging.isEnabled(level, context)) return
    const line = Effect.suspend(() => lineOf(call, exit, status, level))
    // a bug is always told of: its client has been given the id in that line
    return status === undefined || isBug(exit) ? line : (level === "Error" ? ours : callers).log(line)
  }
}

// whoever calls wrongly is not to keep what is wrong here out of the log
const ours = LogRateLimiter.make("calls that failed")
const callers = LogRateLimiter.make("calls that failed")

/**
 * Whose fault it is. What no handler got is the caller's, whatever grpc-js calls it; and how long a Stream of answers goes on is
 * for the caller to say, by its deadline too.
 */
const levelOf = (call: GrpcCall["Service"], status: Status.Status | undefined): LogLevel.Severity => {
  if (status === undefined) return "Debug"
  if (!Status.isServerError(status) || call.isRejected) return "Info"
  const isStream = call.kind === "serverStream" || call.kind === "bidi"
  return isStream && status._tag === "DeadlineExceeded" ? "Info" : "Error"
}

const isBug = (exit: Exit.Exit<unknown, unknown>): exit is Exit.Failure<unknown, unknown> =>
  Exit.isFailure(exit) && Cause.hasDies(exit.cause)

const lineOf = (
  call: GrpcCall["Service"],
  exit: Exit.Exit<unknown, Status.Status>,
  status: Status.Status | undefined,
  level: LogLevel.Severity
): Effect.Effect<void> => {
  const code = status?._tag ?? "OK"
  const message = isBug(exit)
    ? "A bug in a handler"
    : status === undefined
      ? "A call"
      : `A call failed: ${status.message}`
  const cause = isBug(exit)
    ? exit.cause
    : level === "Error" && call.failure !== undefined
      ? Cause.fail(call.failure)
      : undefined
  return Effect.logWithLevel(level)(message, ...(cause === undefined ? [] : [cause])).pipe(
    Effect.annotateLogs({
      method: call.name,
      code,
      durationMs: Math.round((performance.now() - call.startedAt) * 1000) / 1000,
      ...PeerIdentity.annotations(call.peer),
      ...(isBug(exit) ? { requestId: call.id } : {})
    })
  )
}
