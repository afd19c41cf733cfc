/**
 * An HTTP server over Node's own that drains when it closes.
 */
import { createServer, type IncomingMessage, type Server, ServerResponse } from "node:http"

import { NodeHttpServer } from "@effect/platform-node"
import { Config, Deferred, Effect, Layer, Option } from "effect"
import { HttpMiddleware, HttpServer } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"

import * as Address from "./Address.ts"
import { Drain } from "./Drain.ts"
import { fromCause, type ListenError, type ListenOptions } from "./ListenError.ts"
import * as Setting from "./Setting.ts"
import { StableSet } from "./StableSet.ts"
import * as WebObserver from "./WebObserver.ts"

export interface Options extends ListenOptions {
  /** Whether who asks may say that a trace is to be recorded: not at a door that is open to strangers. */
  readonly trustsTraces: boolean
}

/**
 * The address under a prefix: `<prefix>_HTTP_HOST` (every address) and `<prefix>_HTTP_PORT`; and `<prefix>_TRUST_TRACES` (false).
 */
export const settings = (prefix: string, defaultPort: number): Config.Config<Options> =>
  Config.all({
    host: Setting.host(`${prefix}_HTTP_HOST`).pipe(Config.map(Option.getOrUndefined)),
    port: Setting.port(`${prefix}_HTTP_PORT`, defaultPort),
    variables: Config.succeed({ host: `${prefix}_HTTP_HOST`, port: `${prefix}_HTTP_PORT` }),
    trustsTraces: Setting.flag(`${prefix}_TRUST_TRACES`, false)
  })

/** What a server serves. */
export interface Site extends Pick<WebObserver.Options, "failed" | "routeOf"> {
  readonly app: WebObserver.App
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
    Layer.unwrap(
      Effect.sync(() => {
        const server = createServer({ ServerResponse: Answer })
        const answering = new StableSet<ServerResponse>()
        let answered = 0
        let isDraining = false
        let isCutting = false
        server.on("request", (_request, response) => {
          answering.add(response)
          if (isDraining) response.shouldKeepAlive = false
          response.on("close", () => {
            answering.delete(response)
            answered++
          })
        })

        const drain = Effect.gen(function* () {
          const before = answered
          const timeout = yield* (yield* Drain).timeLeft
          const closed = yield* Deferred.make<void>()
          server.close(() => Deferred.doneUnsafe(closed, Effect.void))
          yield* Deferred.await(closed).pipe(Effect.interruptible, Effect.timeoutOption(timeout))
          isCutting = true
          yield* Effect.logInfo(
            `HTTP is closed: ${answered - before} requests in flight finished, ${answering.size} were cut`
          )
        })
        const closeConnections = Effect.sync(() => server.closeAllConnections())
        const closeWhileDraining = Effect.flatMap(Drain, ({ awaitDraining }) =>
          Effect.andThen(
            awaitDraining,
            Effect.sync(() => {
              isDraining = true
              for (const response of answering) response.shouldKeepAlive = false
            })
          )
        )

        // these close from the first to the last: finish what is being answered, stop answering, close what is still open
        return Layer.effectDiscard(Effect.acquireRelease(announce, () => drain)).pipe(
          Layer.provide(
            Layer.unwrap(
              Effect.map(site, ({ app, ...observed }) =>
                HttpServer.serve(
                  // Effect's server answers without being interrupted: not by a client that goes away, nor when the time to drain is over
                  Effect.interruptible(
                    WebObserver.observe(app, {
                      ...observed,
                      trustsTraces: options.trustsTraces,
                      isCutting: () => isCutting
                    })
                  )
                )
              )
            )
          ),
          // the spans are made here, where it is known whom to believe
          Layer.provide(Layer.succeed(HttpMiddleware.TracerDisabledWhen, () => true)),
          Layer.provide(Layer.effectDiscard(Effect.forkScoped(closeWhileDraining, { startImmediately: true }))),
          Layer.provide(Layer.effectDiscard(Effect.addFinalizer(() => closeConnections))),
          Layer.provideMerge(listen(server, options))
        )
      })
    )

const announce = Effect.gen(function* () {
  const { address } = yield* HttpServer.HttpServer
  if (!NetAddress.isInetAddress(address)) return
  const reachable = Address.toReachable({ host: NetAddress.formatIp(address.address), port: address.port })
  yield* Effect.logInfo(`HTTP is served on http://${Address.format(reachable)}`)
})

/** As {@link serve}, by {@link settings}. */
export const serveConfig =
  (prefix: string, defaultPort: number) =>
  <E, R>(site: Effect.Effect<Site, E, R>) =>
    Layer.unwrap(Effect.map(settings(prefix, defaultPort), (options) => serve(options)(site)))

const listen = (server: Server, options: ListenOptions) =>
  Layer.effect(
    HttpServer.HttpServer,
    Effect.mapError(
      NodeHttpServer.make(() => server, { port: options.port, host: options.host, disablePreemptiveShutdown: true }),
      ({ cause }) => fromCause(options, cause)
    )
  )

/**
 * An answer that Node writes in one go. Effect has Node count what is written against the content-length that it has counted itself,
 * and then Node writes the end of an answer apart, which took a fourteenth of a page (npm run bench).
 */
class Answer<Request extends IncomingMessage> extends ServerResponse<Request> {
  static {
    Object.defineProperty(this.prototype, "strictContentLength", { get: () => false, set: () => {} })
  }
}
