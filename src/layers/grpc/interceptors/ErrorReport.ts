/**
 * Tells a team's error tracker of bugs, over Effect's {@link ErrorReporter}: whatever reporters a layer gives, such as
 *
 * ```ts
 * ErrorReporter.layer([ErrorReporter.make(({ attributes, error }) => Sentry.captureException(error, { extra: attributes }))])
 * ```
 *
 * Errors that are foreseen are none of its business.
 */
import { Cause, Exit, Option } from "effect"

import * as UnexpectedError from "../../telemetry/UnexpectedError.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { ServerInterceptor } from "../GrpcInterceptor.ts"

/** Reports the bugs in handlers, and the failures that they call INTERNAL, UNKNOWN or DATA_LOSS, each once and with its call. */
export const server: ServerInterceptor = {
  onEnd: (call, exit) => {
    if (Exit.isSuccess(exit)) return
    const { cause } = exit
    const attributes = () => ({
      method: call.name,
      // the client has been given it, and the log has it too
      ...(Cause.hasDies(cause) ? { requestId: call.id } : {}),
      ...PeerIdentity.annotations(call.peer)
    })
    return UnexpectedError.report(cause, attributes, (status) =>
      // what has been rejected is its caller's fault, whatever grpc-js calls it
      !call.isRejected && unexpected.has(status._tag) ? Option.some(call.failure ?? status) : Option.none()
    )
  }
}

const unexpected: ReadonlySet<string> = new Set(["Internal", "Unknown", "DataLoss"])
