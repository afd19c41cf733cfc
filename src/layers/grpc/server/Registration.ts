/**
 * Registers the methods of a service with a server, over HTTP/2 or in memory.
 */
import { Context, Effect } from "effect"

import { RequestAnnotations } from "../../telemetry/logFormat.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import { GrpcCall } from "../GrpcCall.ts"
import type { ServerInterceptor } from "../GrpcInterceptor.ts"
import type { Options, Registration } from "../GrpcServer.ts"
import * as DefaultObservers from "../interceptors/DefaultObservers.ts"
import * as Metrics from "../interceptors/Metrics.ts"
import type { Method } from "./MethodRunner.ts"

export interface RegisteredMethod<E, R> extends Method<E, R> {
  /** Interceptors of the service, inside those of the server. */
  readonly interceptors: ReadonlyArray<ServerInterceptor>
  /** Whether calls of the method take no slots of others. Use it for probes: a refused probe would mark a busy server as not ready. */
  readonly isExempt: boolean
}

/** The interceptors of all calls of a server, its observers first. */
export const interceptorsOf = ({
  interceptors = [],
  observers = DefaultObservers.server
}: Pick<Options, "interceptors" | "observers">): ReadonlyArray<ServerInterceptor> => [...observers, ...interceptors]

/** Annotates log lines within a call with its peer, which is read when a line is written. */
export const annotatePeer = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.add(context, RequestAnnotations, (within) => {
    const call = Context.getOrUndefined(within, GrpcCall)
    return call && PeerIdentity.annotations(call.peer)
  })

/**
 * Adds each method that has a handler; calls of the others are answered UNIMPLEMENTED. `add` returns false if the path is taken.
 */
export const register = Effect.fnUntraced(function* <E, R>(
  { definition, handlers, interceptors = [], isExempt = false, name, toStatus }: Registration<E, R>,
  interceptorsOfAll: ReadonlyArray<ServerInterceptor>,
  add: (method: RegisteredMethod<E, R>) => boolean
) {
  const context = annotatePeer(yield* Effect.context<Exclude<R, GrpcCall>>())
  const hasMetrics = [...interceptorsOfAll, ...interceptors].includes(Metrics.server)
  for (const [methodName, method] of Object.entries(definition)) {
    const handler = handlers[methodName]
    if (handler === undefined) return yield* Effect.die(new Error(`${method.path} has no handler`))
    if (typeof handler !== "function") continue
    if (hasMetrics) yield* Metrics.startAtZero({ service: name, method: methodName, kind: method.kind })
    if (!add({ definition: method, handler, context, toStatus, interceptors, isExempt })) {
      return yield* Effect.die(new Error(`${method.path} is already registered`))
    }
  }
})
