/**
 * An HTTP server that observes its requests, bounds what clients can take up, and drains when it closes.
 */
import { Config, Deferred, Duration, Effect, Layer, Option } from "effect"
import { HttpMiddleware, HttpServer } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"

import * as Address from "../config/Address.ts"
import * as IpNetworks from "../config/IpNetworks.ts"
import * as Setting from "../config/Setting.ts"
import { Drain } from "../process/Drain.ts"
import type { ListenError, ListenOptions } from "../process/ListenError.ts"
import * as HttpEdge from "./HttpEdge.ts"
import * as HttpObserver from "./HttpObserver.ts"

export interface Options extends ListenOptions {
  /** Whether who asks may say that a trace is to be recorded: not at a door that is open to strangers. */
  readonly trustsTraces: boolean
  /** Reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; none by default. */
  readonly trustedProxies?: IpNetworks.IpNetworks | undefined
  /** {@link HttpEdge.defaultLimits} by default. */
  readonly limits?: HttpEdge.Limits | undefined
}

/**
 * The address under a prefix: `<prefix>_HTTP_HOST` (every address) and `<prefix>_HTTP_PORT`; `<prefix>_TRUST_TRACES` (false);
 * `<prefix>_TRUSTED_PROXIES` (none), and the {@link limits}.
 */
export const settings = (prefix: string, defaultPort: number): Config.Config<Options> =>
  Config.all({
    host: Setting.host(`${prefix}_HTTP_HOST`).pipe(Config.map(Option.getOrUndefined)),
    port: Setting.port(`${prefix}_HTTP_PORT`, defaultPort),
    variables: Config.succeed({ host: `${prefix}_HTTP_HOST`, port: `${prefix}_HTTP_PORT` }),
    trustsTraces: Setting.flag(`${prefix}_TRUST_TRACES`, false),
    trustedProxies: Setting.optional(`${prefix}_TRUSTED_PROXIES`, {
      expected: "networks such as 10.0.0.0/8 or fd00::/8, with commas between them",
      parse: IpNetworks.parse
    }).pipe(Config.map(Option.getOrElse(() => IpNetworks.none))),
    limits: limits(prefix)
  })

/** The limits under a prefix; {@link HttpEdge.defaultLimits} says what they are without. */
export const limits = (prefix: string): Config.Config<HttpEdge.Limits> => {
  const orElse = HttpEdge.defaultLimits
  return Config.all({
    maxConnections: Setting.count(`${prefix}_MAX_CONNECTIONS`, orElse.maxConnections, 1),
    maxConnectionsPerAddress: Setting.optional(`${prefix}_MAX_CONNECTIONS_PER_ADDRESS`, {
      expected: "a whole number from 1 to 999999999",
      parse: (value) => (/^[1-9]\d{0,8}$/.test(value) ? Option.some(Number(value)) : Option.none())
    }),
    maxRequestsPerConnection: Setting.count(
      `${prefix}_MAX_REQUESTS_PER_CONNECTION`,
      orElse.maxRequestsPerConnection,
      1
    ),
    maxConcurrentRequests: Setting.count(`${prefix}_MAX_CONCURRENT_REQUESTS`, orElse.maxConcurrentRequests, 1),
    maxUnreadSize: Setting.count(`${prefix}_MAX_UNREAD_SIZE`, orElse.maxUnreadSize, 65_536),
    unreadTimeout: timeout(`${prefix}_UNREAD_TIMEOUT`, orElse.unreadTimeout),
    requestTimeout: timeout(`${prefix}_REQUEST_TIMEOUT`, orElse.requestTimeout),
    keepAliveTimeout: timeout(`${prefix}_KEEP_ALIVE_TIMEOUT`, orElse.keepAliveTimeout)
  })
}

/** Node's timers and those of load balancers are that coarse; 0 would be no time-out at all. */
const shortest = Duration.seconds(1)
const longest = Duration.hours(24)

const timeout = (variable: string, orElse: Duration.Duration): Config.Config<Duration.Duration> =>
  Config.mapEffect(Setting.duration(variable, orElse), (duration) =>
    Duration.between(duration, { minimum: shortest, maximum: longest })
      ? Effect.succeed(duration)
      : Effect.fail(
          new Setting.SettingError({
            variable,
            value: Duration.format(duration),
            expected: "a duration from 1 second to 24 hours"
          })
        )
  )

/** What a server serves. */
export interface Site extends Pick<HttpObserver.Options, "failed" | "routeOf"> {
  readonly app: HttpObserver.App
  /** Headers of every answer that is not the app's own: refusals. */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/**
 * Serves an app until it closes. Then it takes no new connections, and what is being answered has the time that the
 * {@link Drain} leaves; while the process drains, answers tell their clients to close the connection.
 */
export const serve =
  (options: Options) =>
  <E, R>(
    site: Effect.Effect<Site, E, R>
  ): Layer.Layer<HttpServer.HttpServer, E | ListenError, Exclude<R, HttpServer.HttpServer> | Drain> =>
    Layer.effect(
      HttpServer.HttpServer,
      Effect.gen(function* () {
        const { app, headers, ...observed } = yield* site
        let isCutting = false
        const observer: HttpObserver.Options = {
          ...observed,
          trustsTraces: options.trustsTraces,
          isCutting: () => isCutting
        }
        // Finalizers run from the last to the first: what is being answered is finished, then answering stops, then what is still
        // open is closed.
        const edge = yield* HttpEdge.make({
          name: "http",
          limits: options.limits ?? HttpEdge.defaultLimits,
          trustedProxies: options.trustedProxies ?? IpNetworks.none,
          headers,
          onRefused: HttpObserver.refused(observer, yield* Effect.context<never>())
        })
        const http = yield* HttpEdge.listen(edge, options)
        yield* Effect.forkScoped(
          Effect.flatMap(Drain, ({ awaitDraining }) => Effect.andThen(awaitDraining, Effect.sync(edge.drain))),
          { startImmediately: true }
        )
        // Effect's server answers without being interrupted: not by a client that goes away, nor when the time to drain is over
        yield* HttpEdge.serveApp(edge, Effect.interruptible(HttpObserver.observe(app, observer))).pipe(
          // the spans are made by the observer, which knows whom to believe
          Effect.provideService(HttpMiddleware.TracerDisabledWhen, () => true)
        )
        yield* Effect.acquireRelease(announce(http), () =>
          Effect.andThen(
            drain(edge),
            Effect.sync(() => (isCutting = true))
          )
        )
        return http
      })
    ) as Layer.Layer<HttpServer.HttpServer, E | ListenError, Exclude<R, HttpServer.HttpServer> | Drain>

/** Closes to new connections, and waits for the answers in flight, as long as there is time. */
const drain = Effect.fnUntraced(function* ({ connections, server }: HttpEdge.HttpEdge) {
  const before = connections.counts.closed
  const timeout = yield* (yield* Drain).timeLeft
  const closed = yield* Deferred.make<void>()
  server.close(() => Deferred.doneUnsafe(closed, Effect.void))
  yield* Deferred.await(closed).pipe(Effect.interruptible, Effect.timeoutOption(timeout))
  const { closed: after, exchanges } = connections.counts
  yield* Effect.logInfo(`HTTP is closed: ${after - before} requests in flight finished, ${exchanges} were cut`)
})

const announce = Effect.fnUntraced(function* ({ address }: HttpServer.HttpServer["Service"]) {
  if (!NetAddress.isInetAddress(address)) return
  const reachable = Address.toReachable({ host: NetAddress.formatIp(address.address), port: address.port })
  yield* Effect.logInfo(`HTTP is served on http://${Address.format(reachable)}`)
})

/** As {@link serve}, by {@link settings}. */
export const serveConfig =
  (prefix: string, defaultPort: number) =>
  <E, R>(site: Effect.Effect<Site, E, R>) =>
    Layer.unwrap(Effect.map(settings(prefix, defaultPort), (options) => serve(options)(site)))
