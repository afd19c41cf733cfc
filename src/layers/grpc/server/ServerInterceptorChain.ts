/**
 * Composes the interceptors of a server into one.
 */
import { Context, Effect, Exit, Stream } from "effect"

import { GrpcCall } from "../GrpcCall.ts"
import type { ServerInterceptor } from "../GrpcInterceptor.ts"
import { InterceptorChain } from "../InterceptorChain.ts"
import type * as Status from "../Status.ts"
import type { CallContext } from "./CallContext.ts"

export class ServerInterceptorChain extends InterceptorChain<CallContext, Status.Status> {
  /** See {@link ServerInterceptor.aroundStream}. */
  readonly aroundStream: NonNullable<ServerInterceptor["aroundStream"]>

  constructor(interceptors: ReadonlyArray<ServerInterceptor>) {
    super(interceptors, (exit, call) => call.status(exit))
    const streams = interceptors.flatMap(({ aroundStream }) => aroundStream ?? [])
    this.aroundStream = (messages, call) =>
      streams.reduceRight((inner, wrap) => Stream.suspend(() => wrap(inner, call)), messages)
  }

  /**
   * Runs the interceptors for a call that reaches no handler, so that it has metrics, a log line and a span like any other call. It has
   * been answered with `status` already: a status that an interceptor returns is seen only by outer interceptors.
   */
  runRejected(call: CallContext, context: Context.Context<never>, status: Status.Status): void {
    call.isRejected = true
    const services = this.start(call, Context.add(context, GrpcCall, call))
    if (this.around === undefined) return this.end(call, Exit.fail(status), services)
    Effect.runForkWith(services)(this.around(Effect.fail(status), call)).addObserver((exit) =>
      this.end(call, exit, services)
    )
  }
}
