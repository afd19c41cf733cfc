/**
 * The listening socket of a server.
 */
import type { Server } from "node:net"

import { Effect } from "effect"

import type * as Address from "../../config/Address.ts"
import { fromCause, type ListenError, type ListenOptions } from "../../process/ListenError.ts"

/**
 * Opens the port. Without a host it listens on every address of both families ("::"), or on those of IPv4 alone if the machine has no
 * IPv6. `onError` is called with later errors: one per connection that could not be accepted.
 */
export const listen = (
  server: Server,
  options: ListenOptions,
  onError: (error: Error) => void
): Effect.Effect<Address.Address, ListenError> => {
  if (options.host !== undefined) return listenOn(server, options, options.host, onError)
  return listenOn(server, options, "::", onError).pipe(
    Effect.catchIf(
      ({ cause }) => /EAFNOSUPPORT|EADDRNOTAVAIL|EINVAL/.test(String(cause)),
      () => listenOn(server, options, "0.0.0.0", onError)
    )
  )
}

const listenOn = (server: Server, options: ListenOptions, host: string, onError: (error: Error) => void) =>
  Effect.callback<Address.Address, ListenError>((resume) => {
    const onFailure = (cause: Error) => {
      server.off("listening", onListening)
      resume(Effect.fail(fromCause({ ...options, host }, cause)))
    }
    const onListening = () => {
      server.off("error", onFailure)
      server.on("error", onError)
      const address = server.address()
      const port = address !== null && typeof address === "object" ? address.port : options.port
      resume(Effect.succeed({ host, port }))
    }
    server.once("error", onFailure)
    server.once("listening", onListening)
    server.listen(options.port, host)
  })
