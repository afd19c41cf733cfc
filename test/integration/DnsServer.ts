/**
 * A DNS server whose records a test can change. A grpc-js client uses it with the target
 * `dns://127.0.0.1:<port>/<name>:<port of the service>` if its process has GRPC_NODE_USE_ALTERNATIVE_RESOLVER=true; otherwise grpc-js
 * uses the system's resolver whatever the target says.
 */
import { createSocket } from "node:dgram"

import * as packet from "dns-packet"
import { Duration, Effect, Option, type Scope } from "effect"

export interface DnsServer {
  /** The port on 127.0.0.1. */
  readonly port: number
  /**
   * Sets the IPv4 addresses of a name. A name with no addresses exists, like a headless Service without ready endpoints; a name that
   * was never set does not exist.
   */
  readonly set: (name: string, addresses: ReadonlyArray<string>) => Effect.Effect<void>
  /** The number of queries for the addresses of a name. */
  readonly queries: (name: string) => Effect.Effect<number>
}

/** Flags and codes of RFC 1035, section 4.1.1, that dns-packet does not name. */
const refused = 5
const nameError = 3

/** A TTL of 0 disables caching in resolvers, so only the caching of the client remains. */
const ttl = 0

/**
 * A server that caches its answers for some time, like the DNS of a cluster. An answer without addresses is not cached. The scope
 * closes it.
 */
export const makeKeeping = Effect.fnUntraced(function* (
  keep: Duration.Duration
): Effect.fn.Return<DnsServer, never, Scope.Scope> {
  const names = new Map<string, ReadonlyArray<string>>()
  const asked = new Map<string, number>()
  const kept = new Map<string, { readonly addresses: ReadonlyArray<string>; readonly until: number }>()

  const addressesOf = (name: string): ReadonlyArray<string> | undefined => {
    const known = kept.get(name)
    if (known !== undefined && performance.now() < known.until) return known.addresses
    const addresses = names.get(name)
    if (addresses !== undefined && addresses.length > 0) {
      kept.set(name, { addresses, until: performance.now() + Duration.toMillis(keep) })
    }
    return addresses
  }

  const answer = (query: packet.DecodedPacket): Buffer => {
    const [question] = query.questions ?? []
    const name = question?.name.toLowerCase() ?? ""
    const isForAddresses = question?.type === "A"
    const addresses = addressesOf(name)
    if (isForAddresses) asked.set(name, (asked.get(name) ?? 0) + 1)
    const code = question === undefined ? refused : addresses === undefined ? nameError : 0
    return packet.encode({
      type: "response",
      id: query.id ?? 0,
      flags: packet.AUTHORITATIVE_ANSWER | code,
      questions: query.questions ?? [],
      // an existing name has no AAAA and TXT records (gRPC looks for service configs in TXT)
      answers: isForAddresses
        ? (addresses ?? []).map((data) => ({ type: "A", name: question.name, ttl, data }) as const)
        : []
    })
  }
  // a malformed query is not answered
  const decode = Option.liftThrowable((bytes: Buffer) => packet.decode(bytes))

  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => createSocket("udp4")),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )
  // the client may be gone before the answer
  socket.on("error", () => {})
  socket.on("message", (bytes, client) => {
    Option.map(decode(bytes), (query) => socket.send(answer(query), client.port, client.address))
  })
  yield* Effect.callback<void>((resume) => void socket.bind(0, "127.0.0.1", () => resume(Effect.void)))

  return {
    port: socket.address().port,
    set: (name, addresses) => Effect.sync(() => void names.set(name.toLowerCase(), addresses)),
    queries: (name) => Effect.sync(() => asked.get(name.toLowerCase()) ?? 0)
  }
})

/** A server without caching. The scope closes it. */
export const make: Effect.Effect<DnsServer, never, Scope.Scope> = makeKeeping(Duration.zero)
