/**
 * The admin port: an HTTP server for probes and metrics, separate from the public port. {@link adminRoutes} has its routes.
 *
 * Provide every other server with this layer, so that the admin port opens before they start and closes after they have drained.
 */
import { Config, Effect, Layer, Option } from "effect"
import { HttpMiddleware, HttpServer } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"

import * as Address from "../config/Address.ts"
import * as IpNetworks from "../config/IpNetworks.ts"
import * as Setting from "../config/Setting.ts"
import { adminRoutes, observeDraining } from "../process/adminRoutes.ts"
import type { Drain } from "../process/Drain.ts"
import type { ListenError, ListenOptions } from "../process/ListenError.ts"
import * as HttpEdge from "./HttpEdge.ts"

/** The address from `<prefix>_ADMIN_HOST` and `<prefix>_ADMIN_PORT`. */
export const settings = (prefix: string, defaultPort: number): Config.Config<ListenOptions> =>
  Config.all({
    host: Setting.host(`${prefix}_ADMIN_HOST`, {
      description: "The address that the admin port listens on.",
      unset: "`127.0.0.1`"
    }).pipe(Config.map(Option.getOrElse(() => "127.0.0.1"))),
    port: Setting.port(`${prefix}_ADMIN_PORT`, {
      description: "The admin port: it serves `/livez`, `/readyz` and `/metrics`.",
      default: defaultPort
    }),
    variables: Config.succeed({ host: `${prefix}_ADMIN_HOST`, port: `${prefix}_ADMIN_PORT` })
  })

/** Small limits: only probes and Prometheus use this port. */
const limits: HttpEdge.Limits = { ...HttpEdge.defaultLimits, maxConnections: 100, maxConcurrentRequests: 50 }

/** Serves the admin port. Closing it destroys its connections without waiting for responses. */
export const layer = (options: ListenOptions): Layer.Layer<never, ListenError, Drain> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      let isLocal = true
      const edge = yield* HttpEdge.make({
        name: "admin",
        limits,
        trustedProxies: IpNetworks.none,
        servesHost: (host) => !isLocal || isLocalHost(host)
      })
      const { address } = yield* HttpEdge.listen(edge, options)
      isLocal = NetAddress.isInetAddress(address) && Address.isLoopback(NetAddress.formatIp(address.address))
      yield* observeDraining
      yield* Effect.logInfo(`Admin server listening on ${HttpServer.formatAddress(address)}`)
      yield* HttpEdge.serveApp(edge, adminRoutes).pipe(
        // probes are not traced
        Effect.provideService(HttpMiddleware.TracerDisabledWhen, () => true)
      )
    })
  )

/**
 * Whether a Host header names this machine. Other hosts are refused on a loopback port as protection against DNS rebinding: a page
 * from another site may resolve its own name to a loopback address to reach this port, but its Host header still has that name.
 */
const isLocalHost = (host: string): boolean => Address.isLoopback(host.replace(/^\[(.*)\]$/, "$1"))

/** {@link layer} with {@link settings}. */
export const layerConfig = (prefix: string, defaultPort: number) =>
  Layer.unwrap(Effect.map(settings(prefix, defaultPort), layer))
