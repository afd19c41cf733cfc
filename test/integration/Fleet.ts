/**
 * Replicas of both services, started and replaced like in Kubernetes. Each is a process with its own address. Ready replicas of
 * Recommendations are published in DNS like a headless Service, and ready replicas of Marketplace are in a load balancer.
 *
 * The addresses start at 127.0.1.1; Linux accepts the whole of 127.0.0.0/8 without configuration.
 */
import { Context, Duration, Effect, Layer, Ref, Schedule, Scope } from "effect"

import * as DnsServer from "./DnsServer.ts"
import { type Environment, Installation, type Running, type Service } from "./Installation.ts"
import type { Backend } from "./PageLoad.ts"
import * as TcpPort from "./TcpPort.ts"

/** A replica. */
export interface Replica {
  readonly service: Service
  /** Its address. Addresses are not reused. */
  readonly host: string
  /** The gRPC or HTTP port. */
  readonly port: number
  /** The admin port on the same address. */
  readonly adminPort: number
  readonly running: Running
}

export interface Options {
  readonly recommendations: number
  readonly marketplaces: number
  /** Further settings of each process of a service. */
  readonly environment?: { readonly [S in Service]?: Environment } | undefined
  /** Waits for the readiness of a process that has logged its start. Without it, such a process is ready. */
  readonly ready?: ((replica: Replica) => Effect.Effect<void>) | undefined
  /** How long a new replica is published before the replaced one is stopped: minReadySeconds of a Deployment. */
  readonly minReady: Duration.Input
}

/** A process is ready when /readyz answers 200. */
export const readyz = ({ adminPort, host }: Replica): Effect.Effect<void> =>
  Effect.tryPromise(() => fetch(`http://${host}:${adminPort}/readyz`)).pipe(
    Effect.flatMap(({ ok, status }) => (ok ? Effect.void : Effect.fail(`status ${status}`))),
    Effect.retry(Schedule.spaced("20 millis")),
    Effect.orDie
  )

/** The DNS name of Recommendations. */
export const name = "recommendations.test"

export class Fleet extends Context.Service<
  Fleet,
  {
    /** The gRPC target of Recommendations. */
    readonly target: string
    readonly dns: DnsServer.DnsServer
    /** The replicas of Marketplace in the load balancer. */
    readonly backends: () => ReadonlyArray<Backend>
    /** The published replicas, oldest first. */
    readonly replicas: (service: Service) => Effect.Effect<ReadonlyArray<Replica>>
    /** Starts another replica and publishes it once it is ready. */
    readonly add: (service: Service) => Effect.Effect<Replica>
    /**
     * Replaces a replica like a Deployment with maxSurge 1 and maxUnavailable 0: once the new one has been ready for minReady, the old
     * one is removed from the endpoints and gets SIGTERM at the same time. Returns the exit code of the old one.
     */
    readonly replace: (replica: Replica) => Effect.Effect<number>
    /** Replaces every replica of a service in turn, several times. Returns the exit codes. */
    readonly rollout: (service: Service, times: number) => Effect.Effect<ReadonlyArray<number>>
    /** Kills a replica. It is removed from the endpoints once the exit is noticed. */
    readonly crash: (replica: Replica) => Effect.Effect<void>
    /** Kills a replica, starts another, and waits until that has been ready for minReady. */
    readonly kill: (replica: Replica) => Effect.Effect<void>
    /** Stops the process of a replica (SIGSTOP); it stays published. */
    readonly stop: (replica: Replica) => Effect.Effect<void>
    /** Continues a stopped replica (SIGCONT). */
    readonly resume: (replica: Replica) => Effect.Effect<void>
    /** The warnings and errors in the logs of all processes of a service, exited ones included. */
    readonly complaints: (service: Service) => Effect.Effect<ReadonlyArray<string>>
  }
>()("onlinebooks/test/Fleet") {
  static readonly layer = (options: Options) => Layer.effect(Fleet, make(options))
}

const make = Effect.fnUntraced(function* ({ environment, marketplaces, minReady, ready, recommendations }: Options) {
  const { start, write } = yield* Installation
  const scope = yield* Effect.scope
  const dns = yield* DnsServer.make
  // Free on all other addresses. They are reserved at 127.0.0.1 until the scope closes, so that the system does not assign them to
  // another process that listens on all addresses.
  const port = yield* TcpPort.accept((socket) => socket.destroy())
  const adminPort = yield* TcpPort.accept((socket) => socket.destroy())
  const target = `dns://127.0.0.1:${dns.port}/${name}:${port}`

  const everyone: Array<Replica> = []
  const numbers = yield* Ref.make(0)
  const published: { readonly [S in Service]: Set<Replica> } = { recommendations: new Set(), marketplace: new Set() }

  const announce = Effect.suspend(() =>
    dns.set(
      name,
      Array.from(published.recommendations, ({ host }) => host)
    )
  )
  const publish = (replica: Replica) =>
    Effect.andThen(
      Effect.sync(() => published[replica.service].add(replica)),
      announce
    )
  const withdraw = (replica: Replica) =>
    Effect.andThen(
      Effect.sync(() => published[replica.service].delete(replica)),
      announce
    )

  /** The settings for the addresses of each service. */
  const placed: { readonly [S in Service]: (host: string) => Effect.Effect<Environment> } = {
    recommendations: Effect.fnUntraced(function* (host) {
      const file = `catalog-${host}.csv`
      yield* write(file, catalogue(host))
      return {
        RECOMMENDATIONS_GRPC_HOST: host,
        RECOMMENDATIONS_GRPC_PORT: String(port),
        RECOMMENDATIONS_ADMIN_HOST: host,
        RECOMMENDATIONS_ADMIN_PORT: String(adminPort),
        CATALOG_FILE: file
      }
    }),
    marketplace: (host) =>
      Effect.succeed({
        MARKETPLACE_HTTP_HOST: host,
        MARKETPLACE_HTTP_PORT: String(port),
        MARKETPLACE_ADMIN_HOST: host,
        MARKETPLACE_ADMIN_PORT: String(adminPort),
        RECOMMENDATIONS_TARGET: target,
        GRPC_NODE_USE_ALTERNATIVE_RESOLVER: "true"
      })
  }

  const add = Effect.fnUntraced(function* (service: Service) {
    const number = yield* Ref.updateAndGet(numbers, (number) => number + 1)
    const host = `127.0.1.${number}`
    const running = yield* start(service, { ...(yield* placed[service](host)), ...environment?.[service] }).pipe(
      Scope.provide(scope)
    )
    const replica: Replica = { service, host, port, adminPort, running }
    everyone.push(replica)
    if (ready !== undefined) yield* ready(replica)
    yield* publish(replica)
    return replica
  })

  /** Waits for time to pass, like minReadySeconds of a Deployment. */
  const addAvailable = (service: Service) => Effect.andThen(add(service), Effect.sleep(minReady))

  const replace = Effect.fnUntraced(function* (replica: Replica) {
    yield* addAvailable(replica.service)
    yield* withdraw(replica)
    yield* replica.running.signal("SIGTERM")
    return yield* replica.running.exitCode
  })

  const rollout = (service: Service, times: number) =>
    Effect.replicateEffect(
      Effect.suspend(() => Effect.forEach([...published[service]], replace)),
      times
    ).pipe(Effect.map((rounds) => rounds.flat()))

  const crash = Effect.fnUntraced(function* (replica: Replica) {
    yield* replica.running.signal("SIGKILL")
    // a killed process has no exit code
    yield* Effect.exit(replica.running.exitCode)
    yield* withdraw(replica)
  })

  const kill = (replica: Replica) => Effect.andThen(crash(replica), addAvailable(replica.service))

  const resume = ({ running }: Replica) => running.signal("SIGCONT")

  yield* Effect.all(
    [
      Effect.replicateEffect(add("recommendations"), recommendations, { concurrency: "unbounded" }),
      Effect.replicateEffect(add("marketplace"), marketplaces, { concurrency: "unbounded" })
    ],
    { concurrency: "unbounded" }
  )
  // SIGKILL, since a stopped process does not handle SIGTERM, and the drain of the others does not matter here
  yield* Effect.addFinalizer(() =>
    Effect.forEach(
      [...published.recommendations, ...published.marketplace],
      ({ running }) => Effect.andThen(running.signal("SIGKILL"), Effect.exit(running.exitCode)),
      { concurrency: "unbounded" }
    ).pipe(Effect.ignoreCause)
  )

  return Fleet.of({
    target,
    dns,
    backends: () => [...published.marketplace],
    replicas: (service) => Effect.sync(() => [...published[service]]),
    add,
    replace,
    rollout,
    crash,
    kill,
    stop: ({ running }) => running.signal("SIGSTOP"),
    resume,
    complaints: (service) =>
      Effect.forEach(
        everyone.filter((replica) => replica.service === service),
        ({ host, running }) =>
          Effect.map(running.output, (output) =>
            output
              .split("\n")
              .filter((line) => /"(WARN|ERROR|FATAL)"/i.test(line))
              .map((line) => `${host} ${line}`)
          )
      ).pipe(Effect.map((lines) => lines.flat()))
  })
})

/** A catalogue whose titles name the replica, so that a response shows its origin. */
const catalogue = (host: string): string => {
  const rows = Array.from({ length: 30 }, (_, index) => {
    const category = ["MYSTERY", "SCIENCE_FICTION", "SELF_HELP"][index % 3]
    return `${index + 1},Book ${index + 1} of ${host},Some Author,2000,,${category}`
  })
  return ["id,title,authors,year,isbn10,categories", ...rows, ""].join("\n")
}
