/**
 * Reports unexpected errors of handlers to Effect's {@link ErrorReporter}, for an error tracker such as Sentry:
 *
 * ```ts
 * ErrorReporter.layer([ErrorReporter.make(({ attributes, error }) => Sentry.captureException(error, { extra: attributes }))])
 * ```
 */
import { Cause, Exit, Option } from "effect"

import * as UnexpectedError from "../../telemetry/UnexpectedError.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { ServerInterceptor } from "../GrpcInterceptor.ts"

/** Reports defects, and failures whose status is INTERNAL, UNKNOWN or DATA_LOSS, each once and with its call. */
export const server: ServerInterceptor = {
  onEnd: (call, exit) => {
    if (Exit.isSuccess(exit)) return
    const { cause } = exit
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
}

const unexpected: ReadonlySet<string> = new Set(["Internal", "Unknown", "DataLoss"])
