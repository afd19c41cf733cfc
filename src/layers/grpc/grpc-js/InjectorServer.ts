/**
 * The HTTP/2 server of a grpc-js server, for connections that are passed to a connection injector.
 *
 * grpc-js offers no way to set the options of that server or to access its sessions. It creates the server by Node's
 * `http2.createServer`, which is replaced during that one synchronous call. No private member is used.
 */
import http2, { type Http2Server, type ServerOptions } from "node:http2"

import { type ConnectionInjector, type Server, ServerCredentials } from "@grpc/grpc-js"

/** Creates an injector for plaintext connections. `options` are added to those that grpc-js passes to the HTTP/2 server. */
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
  if (created === undefined) throw new Error("This version of grpc-js does not create its server by http2.createServer")
  return { http2: created, injector }
}
