import { type AddressInfo, createServer, type Server, type Socket } from "node:net"

import { Effect } from "effect"

/** Accepts TCP connections on 127.0.0.1, and succeeds with the port. The connections stay open when the scope closes. */
export const accept = (onConnection: (socket: Socket) => void = () => {}) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Server>((resume) => {
        const server = createServer((socket) => onConnection(socket.on("error", () => {})))
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    ),
    (server) => (server.address() as AddressInfo).port
  )

/** A port of 127.0.0.1 that is free, for a server that is started later. */
export const free = Effect.scoped(accept())
