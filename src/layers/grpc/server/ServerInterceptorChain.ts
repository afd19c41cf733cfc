/**
 * Composes the interceptors of a server into one.
 */
import { Stream } from "effect"

import type { ServerInterceptor } from "../GrpcInterceptor.ts"
import * as InterceptorChain from "../InterceptorChain.ts"
import type * as Status from "../Status.ts"
import type { CallContext } from "./CallContext.ts"

export interface ServerInterceptorChain
  extends
    InterceptorChain.InterceptorChain<CallContext, Status.Status, Required<ServerInterceptor>["around"]>,
    Pick<Required<ServerInterceptor>, "aroundStream"> {}

/** The first is the outermost. */
export const make = (interceptors: ReadonlyArray<ServerInterceptor>): ServerInterceptorChain => {
  const chain = InterceptorChain.make<CallContext, Status.Status, Required<ServerInterceptor>["around"]>(
    interceptors,
    (exit, call) => call.status(exit)
  )
  const streams = interceptors.flatMap(({ aroundStream }) => aroundStream ?? [])
  return {
    ...chain,
    aroundStream: (messages, call) =>
      streams.reduceRight((inner, wrap) => Stream.suspend(() => wrap(inner, call)), messages)
  }
}
