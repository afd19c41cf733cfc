/**
 * Gives access to the HTTP/2 server that grpc-js makes for the connections that are injected into it, and sets its options.
 *
 * Why: grpc-js' public API has no way to bound sessions (resets, rejected streams, header pairs), to check a stream before its
 * headers are parsed, or to send a GOAWAY on one session. All limits on connections and streams depend on it.
 *
 * Private members: `Server.commonServerOptions`, `Server.http2Servers`.
 */
import type { Http2Server, ServerOptions } from "node:http2"

import { type Server, ServerCredentials } from "@grpc/grpc-js"

/** Creates a connection injector, and gives the HTTP/2 server behind it. */
export const create = (server: Server, options: ServerOptions) => {
  const { commonServerOptions, http2Servers } = server as unknown as {
    readonly commonServerOptions: ServerOptions
    readonly http2Servers: ReadonlyMap<Http2Server, unknown>
  }
  Object.assign(commonServerOptions, options)
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const [http2] = http2Servers.keys()
  if (http2 === undefined) throw new Error("grpc-js has no HTTP/2 server for its injector")
  return { http2, injector }
}
