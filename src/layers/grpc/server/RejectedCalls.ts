/**
 * Runs interceptors for calls that reach no handler, so that these have metrics, a log line and a span like any other call.
 */
import { Context, Effect, Exit } from "effect"

import { GrpcCall } from "../GrpcCall.ts"
import type * as Status from "../Status.ts"
import { CallContext, type CallInfo, type MethodInfo } from "./CallContext.ts"
import type { ServerInterceptorChain } from "./ServerInterceptorChain.ts"

/** The call has been answered with `status` already: a status that an interceptor returns is seen only by outer interceptors. */
export const notifyInterceptors = (
  interceptors: ServerInterceptorChain,
  context: Context.Context<never>,
  method: MethodInfo,
  call: CallInfo,
  status: Status.Status
): void => {
  const callContext = new CallContext(method, call, true)
  const services = interceptors.start(callContext, Context.add(context, GrpcCall, callContext))
  const { around } = interceptors
  if (around === undefined) return interceptors.end(callContext, Exit.fail(status), services)
  Effect.runForkWith(services)(around(Effect.fail(status), callContext)).addObserver((exit) =>
    interceptors.end(callContext, exit, services)
  )
}
