/**
 * grpc.health.v1, which load balancers, probes and clients ask whether a server takes calls:
 * https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 *
 * The server, under the empty name, and each of its services are SERVING from the start until the server begins to drain. A service
 * that cannot do its work for a while says so with {@link Health}.
 *
 * ```ts
 * Layer.mergeAll(Api.layer, Health.layer).pipe(NodeGrpcServer.listenConfig("API"))
 *
 * // in a layer among those, provided with Health.layer
 * const { set } = yield* Health
 * yield* database.changes.pipe(
 *   Stream.runForEach((isReachable) => set("api.v1.ApiService", isReachable ? "SERVING" : "NOT_SERVING")),
 *   Effect.forkScoped
 * )
 * ```
 */
import { Context, Effect, Layer, PubSub, Schema, Stream } from "effect"

import {
  _grpc_health_v1_HealthCheckResponse_ServingStatus as ServingStatus,
  type HealthCheckResponse__Output
} from "../generated/health/grpc/health/v1/HealthCheckResponse.ts"
import { Health as HealthService } from "../generated/health/services.ts"
import * as GrpcServer from "../GrpcServer.ts"
import * as Status from "../Status.ts"

/** The server has no service of that name. */
class UnknownService extends Schema.TaggedError<UnknownService>()("UnknownService", {}) {}

/** The server is about to close. */
class ServerLeaving extends Schema.TaggedError<ServerLeaving>()("ServerLeaving", {}) {}

export class Health extends Context.Service<
  Health,
  {
    /**
     * Sets the status of a service, by its name with its package, or of the whole server by the empty name. A name that no service of
     * the server has is known from then on.
     */
    readonly set: (service: string, status: "SERVING" | "NOT_SERVING") => Effect.Effect<void>
  }
>()("layers/grpc/services/Health") {
  /** Serves health checks. They are exempt from admission control: a busy server must not be taken for a dead one. */
  static readonly layer: Layer.Layer<Health, never, GrpcServer.GrpcServer> = Layer.unwrap(
    Effect.gen(function* () {
      const statuses = yield* makeStatuses

      return GrpcServer.serve(
        HealthService,
        Effect.succeed({
          Check: ({ service }) =>
            Effect.flatMap(statuses.current, (current) => {
              const status = current.get(service)
              return status === undefined ? Effect.fail(new UnknownService()) : Effect.succeed({ status })
            }),

          List: () =>
            Effect.map(statuses.current, (current) => ({
              statuses: Object.fromEntries(Array.from(current, ([name, status]) => [name, { status }]))
            })),

          // An open call would delay the drain, so it ends with OK after its last message; an error would count as a failed call at
          // every deployment. The clients of Go, Java and C++ take any end for "not serving" and call again: at once after a call that
          // brought a message, with back-off after a call without one. So a call that comes during the drain fails without a message.
          Watch: ({ service }) =>
            Stream.suspend(() => (statuses.isLeaving() ? Stream.fail(new ServerLeaving()) : statuses.watch(service)))
        }),
        {
          UnknownService: () => Status.notFound("The server has no such service"),
          ServerLeaving: () => Status.unavailable("The server is shutting down")
        },
        { isExempt: true }
      ).pipe(Layer.merge(Layer.succeed(Health, { set: statuses.set })))
    })
  )
}

/** The statuses of the server and its services. */
const makeStatuses = Effect.gen(function* () {
  const server = yield* GrpcServer.GrpcServer
  const own = new Map<string, "SERVING" | "NOT_SERVING">()
  let isLeaving = false

  // signals a change, without the value: a slow reader gets the latest status and skips those before it
  const changed = yield* PubSub.sliding<true>({ capacity: 1, replay: 1 })
  const notify = PubSub.publish(changed, true)
  yield* notify

  // services that are registered later count too
  yield* Effect.forkScoped(Stream.runForEach(server.serviceChanges, () => notify))
  const leave = Effect.suspend(() => {
    isLeaving = true
    return notify
  })
  yield* Effect.forkScoped(Effect.andThen(server.awaitLeaving, leave))

  /** By name. */
  const current = Effect.map(
    server.services,
    (names) =>
      new Map(
        ["", ...names, ...own.keys()].map((name) => [
          name,
          isLeaving ? ServingStatus.NOT_SERVING : ServingStatus[own.get(name) ?? "SERVING"]
        ])
      )
  )

  /** The status of a service whenever it changes; the last one is NOT_SERVING, when the server begins to drain. */
  const watch = (service: string): Stream.Stream<HealthCheckResponse__Output> =>
    Stream.fromPubSub(changed).pipe(
      Stream.mapEffect(() => current),
      Stream.map((statuses) => ({ status: statuses.get(service) ?? ServingStatus.SERVICE_UNKNOWN, isLast: isLeaving })),
      Stream.takeUntil(({ isLast }) => isLast),
      Stream.map(({ status }) => ({ status })),
      Stream.changesWith((before, after) => before.status === after.status)
    )

  const set = (service: string, status: "SERVING" | "NOT_SERVING") =>
    Effect.suspend(() => {
      own.set(service, status)
      return Effect.asVoid(notify)
    })

  return { current, isLeaving: () => isLeaving, set, watch }
})
