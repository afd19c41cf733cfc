/**
 * Composes the interceptors of a server into one.
 */
import { Exit, Stream } from "effect"

import type { ServerInterceptor } from "../GrpcInterceptor.ts"
import { InterceptorChain } from "../InterceptorChain.ts"
import type * as Status from "../Status.ts"
import type { CallContext } from "./CallContext.ts"

export class ServerInterceptorChain extends InterceptorChain<CallContext, Status.Status> {
  /** See {@link ServerInterceptor.aroundStream}. */
  readonly aroundStream: NonNullable<ServerInterceptor["aroundStream"]>

  constructor(interceptors: ReadonlyArray<ServerInterceptor>) {
    super(interceptors, (exit, call) => (Exit.isSuccess(exit) ? undefined : call.statusOfCause(exit.cause)))
    const streams = interceptors.flatMap(({ aroundStream }) => aroundStream ?? [])
    this.aroundStream = (messages, call) =>
      streams.reduceRight((inner, wrap) => Stream.suspend(() => wrap(inner, call)), messages)
  }
}
