/**
 * Runs interceptors for calls that reach no handler, so that these have metrics, a log line and a span like any other call.
 */
import { Context, Effect, Exit } from "effect"

import { GrpcCall } from "../GrpcCall.ts"
import type * as Status from "../Status.ts"
import type { CallContext } from "./CallContext.ts"
import type { ServerInterceptorChain } from "./ServerInterceptorChain.ts"

/** The call has been answered with `status` already: a status that an interceptor returns is seen only by outer interceptors. */
export const notifyInterceptors = (
  interceptors: ServerInterceptorChain,
  context: Context.Context<never>,
  call: CallContext,
  status: Status.Status
): void => {
  call.isRejected = true
  const services = interceptors.start(call, Context.add(context, GrpcCall, call))
  const { around } = interceptors
  if (around === undefined) return interceptors.end(call, Exit.fail(status), services)
  Effect.runForkWith(services)(around(Effect.fail(status), call)).addObserver((exit) =>
    interceptors.end(call, exit, services)
  )
}
