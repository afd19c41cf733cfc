/**
 * grpc.health.v1, which load balancers, probes and clients ask whether a server takes calls:
 * https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 *
 * The server as a whole, by the empty name, and each of its services serve from the start until the server leaves. A
 * service that cannot do its work for a while says so with {@link Health}; it does not outlive the server's own leaving.
 *
 * ```ts
 * Layer.mergeAll(Api.layer, Health.layer).pipe(NodeGrpcServer.listenConfig("API"))
 *
 * // a layer among those, provided with Health.layer
 * const { set } = yield* Health
 * yield* database.changes.pipe(
 *   Stream.runForEach((isThere) => set("api.v1.ApiService", isThere ? "SERVING" : "NOT_SERVING")),
 *   Effect.forkScoped
 * )
 * ```
 */
import { Context, Effect, Layer, PubSub, Schema, Stream } from "effect"

import definitions from "../generated/health/definitions.ts"
import type { HealthDefinition, HealthHandlers } from "../generated/health/grpc/health/v1/Health.ts"
import type { HealthCheckRequest__Output } from "../generated/health/grpc/health/v1/HealthCheckRequest.ts"
import {
  _grpc_health_v1_HealthCheckResponse_ServingStatus as ServingStatus,
  type HealthCheckResponse__Output
} from "../generated/health/grpc/health/v1/HealthCheckResponse.ts"
import * as GrpcServer from "../GrpcServer.ts"
import * as GrpcService from "../GrpcService.ts"
import * as Status from "../Status.ts"

/** The service, for whoever serves or calls it with {@link HealthProtos}. */
export const HealthService = GrpcService.make<HealthDefinition, HealthHandlers>()({
  name: "grpc.health.v1.Health",
  file: "grpc/health/v1/health.proto"
})

/** Where it is defined: a bundle has it within. */
export const HealthProtos = GrpcService.ProtoFiles.layerEmbedded(definitions)

/** Nobody has registered a service of that name, nor set its status. */
class UnknownService extends Schema.TaggedError<UnknownService>()("UnknownService", {}) {}

/** The server is about to close. */
class ServerLeaving extends Schema.TaggedError<ServerLeaving>()("ServerLeaving", {}) {}

const make = Effect.gen(function* () {
  const server = yield* GrpcServer.GrpcServer
  const own = new Map<string, "SERVING" | "NOT_SERVING">()
  let isLeaving = false

  // That something has changed, not what: who reads slowly gets the latest status and not all that were before it.
  const changed = yield* PubSub.sliding<true>({ capacity: 1, replay: 1 })
  const notify = PubSub.publish(changed, true)
  yield* notify

  // services that are registered later than this are seen too
  yield* Effect.forkScoped(Stream.runForEach(server.serviceChanges, () => notify))
  const leave = Effect.suspend(() => {
    isLeaving = true
    return notify
  })
  yield* Effect.forkScoped(Effect.andThen(server.awaitLeaving, leave))

  /** What is known of every service by now. */
  const statuses = Effect.map(
    server.services,
    (names) =>
      new Map(
        ["", ...names, ...own.keys()].map((name) => [
          name,
          isLeaving ? ServingStatus.NOT_SERVING : ServingStatus[own.get(name) ?? "SERVING"]
        ])
      )
  )

  /** Until the server leaves, which is the last that is said. */
  const watch = (service: string): Stream.Stream<HealthCheckResponse__Output> =>
    Stream.fromPubSub(changed).pipe(
      Stream.mapEffect(() => statuses),
      Stream.map((statuses) => ({ status: statuses.get(service) ?? ServingStatus.SERVICE_UNKNOWN, isLast: isLeaving })),
      Stream.takeUntil(({ isLast }) => isLast),
      Stream.map(({ status }) => ({ status })),
      Stream.changesWith((before, after) => before.status === after.status)
    )

  const handlers = {
    Check: ({ service }: HealthCheckRequest__Output) =>
      Effect.flatMap(statuses, (statuses) => {
        const status = statuses.get(service)
        return status === undefined ? Effect.fail(new UnknownService()) : Effect.succeed({ status })
      }),

    List: () =>
      Effect.map(statuses, (statuses) => ({
        statuses: Object.fromEntries(Array.from(statuses, ([name, status]) => [name, { status }]))
      })),

    // An open call would hold up the server that closes, so it ends, with OK: the last message has said all there is, and
    // an error would count as one wherever calls are counted, at every deployment. The clients of Go, Java and C++, which
    // watch health by themselves, take any end for "not serving", and call again: at once after a call that brought a
    // message, and after more and more time if not even that came. So that they do not call in a tight circle for as long
    // as the server goes on, a call that comes now fails before its first message.
    Watch: ({ service }: HealthCheckRequest__Output) =>
      Stream.suspend((): Stream.Stream<HealthCheckResponse__Output, ServerLeaving> =>
        isLeaving ? Stream.fail(new ServerLeaving()) : watch(service)
      )
  }

  const set = (service: string, status: "SERVING" | "NOT_SERVING") =>
    Effect.suspend(() => {
      own.set(service, status)
      return Effect.asVoid(notify)
    })

  return { handlers, set }
})

export class Health extends Context.Service<
  Health,
  {
    /**
     * Says how a service is, by its name with its package, or the server as a whole by the empty name. A name that no
     * service has is known from then on.
     */
    readonly set: (service: string, status: "SERVING" | "NOT_SERVING") => Effect.Effect<void>
  }
>()("layers/grpc/services/Health") {
  /** Serves it. Calls are answered however much the server has to do, since a busy one is not to be taken away. */
  static readonly layer: Layer.Layer<Health, never, GrpcServer.GrpcServer> = Layer.unwrap(
    Effect.map(make, ({ handlers, set }) =>
      GrpcServer.serve(
        HealthService,
        Effect.succeed(handlers),
        {
          UnknownService: () => Status.notFound("The server has no such service"),
          ServerLeaving: () => Status.unavailable("The server is shutting down")
        },
        { isExempt: true }
      ).pipe(Layer.merge(Layer.succeed(Health, { set })))
    )
  ).pipe(
    Layer.provide(HealthProtos),
    // its definition is part of the program
    Layer.orDie
  )
}
