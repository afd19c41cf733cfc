/**
 * Shows interceptors the calls that no handler gets: with metrics, a log line and a span each, as any other call.
 */
import { Context, Effect, Exit } from "effect"

import { GrpcCall } from "../GrpcCall.ts"
import type * as Status from "../Status.ts"
import { CallContext, type CallInfo, type MethodInfo } from "./CallContext.ts"
import type { Around } from "./ServerInterceptorChain.ts"

/** The call has been answered with the status: what interceptors make of it is seen by those further out only. */
export const show = (
  around: Around,
  context: Context.Context<never>,
  method: MethodInfo,
  call: CallInfo,
  status: Status.Status
): void => {
  const { end, intercept, observe } = around
  const current = new CallContext(method, call, true)
  const services = around.begin(current, Context.add(context, GrpcCall, current))
  if (observe === undefined && intercept === undefined) return end(current, Exit.fail(status), services)
  const intercepted = intercept?.(Effect.fail(status), current) ?? Effect.fail(status)
  Effect.runForkWith(services)(observe?.(intercepted, current) ?? intercepted).addObserver((exit) =>
    end(current, exit, services)
  )
}
