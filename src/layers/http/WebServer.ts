/**
 * An HTTP server for an application: limits ({@link HttpEdge}), observers ({@link HttpObserver}), settings, and a drain when its layer
 * closes.
 */
import { Config, Deferred, Effect, Layer, Option } from "effect"
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
  /** Whether the sampled flag of an incoming `traceparent` is honoured: only behind a trusted proxy. */
  readonly trustsTraces: boolean
  /** Reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted; none by default. */
  readonly trustedProxies?: IpNetworks.IpNetworks | undefined
  /** {@link HttpEdge.defaultLimits} by default. */
  readonly limits?: HttpEdge.Limits | undefined
}

/** The {@link Options} from the variables under a prefix, such as `<prefix>_HTTP_PORT`. */
export const settings = (prefix: string, defaultPort: number): Config.Config<Options> =>
  Config.all({
    host: Setting.host(`${prefix}_HTTP_HOST`, {
      description: "The address to listen on.",
      unset: "every address"
    }).pipe(Config.map(Option.getOrUndefined)),
    port: Setting.port(`${prefix}_HTTP_PORT`, {
      description: "The port to listen on; 0 selects a free port, which is logged.",
      default: defaultPort
    }),
    variables: Config.succeed({ host: `${prefix}_HTTP_HOST`, port: `${prefix}_HTTP_PORT` }),
    trustsTraces: Setting.flag(`${prefix}_TRUST_TRACES`, {
      description:
        "Whether the sampled flag of an incoming `traceparent` is honoured. Set it only behind a trusted proxy.",
      default: false
    }),
    trustedProxies: Setting.optional(`${prefix}_TRUSTED_PROXIES`, {
      description:
        "The networks of proxies. X-Forwarded-For (its last hop outside of them) and X-Forwarded-Proto are trusted only from peers in " +
        "them.",
      unset: "none",
      expected: "comma-separated networks such as 10.0.0.0/8,fd00::/8",
      parse: IpNetworks.parse
    }).pipe(Config.map(Option.getOrElse(() => IpNetworks.none))),
    limits: limits(prefix)
  })

/** The limits from the variables under a prefix; the defaults are {@link HttpEdge.defaultLimits}. */
export const limits = (prefix: string): Config.Config<HttpEdge.Limits> => {
  const orElse = HttpEdge.defaultLimits
  return Config.all({
    maxConnections: Setting.count(`${prefix}_MAX_CONNECTIONS`, {
      description:
        "Open connections, at most half of the files that the process may open. One more closes the connection that has waited the " +
        "longest for its client, of the address with most connections.",
      default: orElse.maxConnections,
      minimum: 1
    }),
    maxConnectionsPerAddress: Setting.optionalCount(`${prefix}_MAX_CONNECTIONS_PER_ADDRESS`, {
      description:
        "Open connections of one client address; an IPv6 /64 counts as one address. Behind trusted proxies it limits the " +
        "concurrent requests of a client.",
      unset: "no limit",
      minimum: 1,
      maximum: 999_999_999
    }),
    maxRequestsPerConnection: Setting.count(`${prefix}_MAX_REQUESTS_PER_CONNECTION`, {
      description: "Open requests of one connection (pipelining).",
      default: orElse.maxRequestsPerConnection,
      minimum: 1
    }),
    maxConcurrentRequests: Setting.count(`${prefix}_MAX_CONCURRENT_REQUESTS`, {
      description:
        "Concurrent requests; fewer while the event loop lags, down to 32. Others are answered 503 with Retry-After.",
      default: orElse.maxConcurrentRequests,
      minimum: 1
    }),
    maxUnreadSize: Setting.count(`${prefix}_MAX_UNREAD_SIZE`, {
      description: "Responses that clients have not read yet, over all connections.",
      unit: "bytes",
      default: orElse.maxUnreadSize,
      minimum: 65_536
    }),
    unreadTimeout: Setting.duration(`${prefix}_UNREAD_TIMEOUT`, {
      description: "How long a client may read no byte of a response.",
      default: orElse.unreadTimeout,
      ...timeouts
    }),
    requestTimeout: Setting.duration(`${prefix}_REQUEST_TIMEOUT`, {
      description: "How long a client may take to send a request.",
      default: orElse.requestTimeout,
      ...timeouts
    }),
    keepAliveTimeout: Setting.duration(`${prefix}_KEEP_ALIVE_TIMEOUT`, {
      description:
        "How long a connection may be idle between two requests. It must be longer than the idle timeout of a load balancer in " +
        "front, which would otherwise send requests on connections that are about to close.",
      default: orElse.keepAliveTimeout,
      ...timeouts
    })
  })
}

/** 0 would be no timeout. */
const timeouts: Setting.DurationRange = { minimum: "1 second", maximum: "24 hours" }

/** An application, and the options to observe it. */
export interface WebApp extends Pick<HttpObserver.Options, "failed" | "routeOf"> {
  readonly app: HttpObserver.App
  /** Headers of the responses to refused requests. */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/**
 * Serves an app until the layer closes. Then no new connections are accepted, and requests in flight may take the time that is left of the
 * {@link Drain}. While the process drains, responses close their connections.
 */
export const serve =
  (options: Options) =>
  <E, R>(
    webApp: Effect.Effect<WebApp, E, R>
  ): Layer.Layer<HttpServer.HttpServer, E | ListenError, Exclude<R, HttpServer.HttpServer> | Drain> =>
    Layer.effect(
      HttpServer.HttpServer,
      Effect.gen(function* () {
        const { app, headers, ...observed } = yield* webApp
        let isAborting = false
        const observer: HttpObserver.Options = {
          ...observed,
          trustsTraces: options.trustsTraces,
          isAborting: () => isAborting
        }
        // Finalizers run in reverse: requests in flight finish, then handlers are interrupted, then connections are closed.
        const edge = yield* HttpEdge.make({
          name: "http",
          limits: options.limits ?? HttpEdge.defaultLimits,
          trustedProxies: options.trustedProxies ?? IpNetworks.none,
          headers,
          onRefused: HttpObserver.refused(observer, yield* Effect.context<never>())
        })
        const http = yield* HttpEdge.listen(edge, options)
        yield* Effect.forkScoped(
          Effect.flatMap(Drain, ({ awaitDraining }) =>
            Effect.andThen(
              awaitDraining,
              Effect.sync(() => edge.drain())
            )
          ),
          { startImmediately: true }
        )
        // Effect's server makes handlers uninterruptible, but a disconnect of the client and the end of the drain must interrupt them
        yield* HttpEdge.serveApp(edge, Effect.interruptible(HttpObserver.observe(app, observer))).pipe(
          // HttpObserver makes the spans
          Effect.provideService(HttpMiddleware.TracerDisabledWhen, () => true)
        )
        yield* Effect.acquireRelease(announce(http), () =>
          Effect.andThen(
            drain(edge),
            Effect.sync(() => (isAborting = true))
          )
        )
        return http
      })
    ) as Layer.Layer<HttpServer.HttpServer, E | ListenError, Exclude<R, HttpServer.HttpServer> | Drain>

/** Stops accepting connections, and waits for the requests in flight for the rest of the drain. */
const drain = Effect.fnUntraced(function* ({ connections, server }: HttpEdge.HttpEdge) {
  const before = connections.counts.closed
  const timeout = yield* (yield* Drain).timeLeft
  const closed = yield* Deferred.make<void>()
  server.close(() => Deferred.doneUnsafe(closed, Effect.void))
  yield* Deferred.await(closed).pipe(Effect.interruptible, Effect.timeoutOption(timeout))
  const { closed: after, exchanges } = connections.counts
  yield* Effect.logInfo(`HTTP server closed: ${after - before} requests in flight finished, ${exchanges} aborted`)
})

const announce = Effect.fnUntraced(function* ({ address }: HttpServer.HttpServer["Service"]) {
  if (!NetAddress.isInetAddress(address)) return
  const bound = { host: NetAddress.formatIp(address.address), port: address.port }
  const reachable = Address.toReachable(bound)
  const others = reachable.host === bound.host ? "" : ` and all other addresses (${bound.host})`
  yield* Effect.logInfo(`HTTP server listening on http://${Address.format(reachable)}${others}`)
})

/** {@link serve} with {@link settings}. */
export const serveConfig =
  (prefix: string, defaultPort: number) =>
  <E, R>(webApp: Effect.Effect<WebApp, E, R>) =>
    Layer.unwrap(Effect.map(settings(prefix, defaultPort), (options) => serve(options)(webApp)))
