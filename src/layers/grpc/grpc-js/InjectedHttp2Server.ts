/**
 * Gives access to the HTTP/2 server that grpc-js creates for injected connections, and sets its options.
 *
 * The public API of grpc-js has no way to limit sessions (resets, rejected streams, header pairs), to check a stream before its headers are
 * parsed, or to send GOAWAY on one session. All limits of connections and streams depend on it.
 *
 * No private member is involved: grpc-js creates that server by Node's `http2.createServer`, which is replaced during that one synchronous
 * call. If a version of grpc-js does it in another way, no server can be created.
 */
import http2, { type Http2Server, type ServerOptions } from "node:http2"

import { type ConnectionInjector, type Server, ServerCredentials } from "@grpc/grpc-js"

/** Creates a connection injector, and gives the HTTP/2 server behind it. `options` are added to those of grpc-js. */
export const create = (
  server: Server,
  options: ServerOptions
): { readonly http2: Http2Server; readonly injector: ConnectionInjector } => {
  const { createServer } = http2
  let created: Http2Server | undefined
  const createAndKeep = (defaults: ServerOptions): Http2Server => {
    created = createServer({ ...defaults, ...options, settings: { ...defaults.settings, ...options.settings } })
    return created
  }
  http2.createServer = createAndKeep as typeof createServer
  let injector: ConnectionInjector
  try {
    injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  } finally {
    http2.createServer = createServer
  }
  if (created === undefined) throw new Error("grpc-js did not create its server by http2.createServer")
  return { http2: created, injector }
}
