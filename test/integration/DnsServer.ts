/**
 * A name server of the test, so that names change when the test says so. A grpc-js client asks it by the target
 * `dns://127.0.0.1:<port>/<name>:<port of the service>`, provided that its process was started with
 * GRPC_NODE_USE_ALTERNATIVE_RESOLVER=true; otherwise it asks the system's resolver whatever the target says.
 */
import { createSocket } from "node:dgram"

import * as packet from "dns-packet"
import { Duration, Effect, Option, type Scope } from "effect"

export interface DnsServer {
  /** Where it listens, on 127.0.0.1. */
  readonly port: number
  /**
   * Gives a name its IPv4 addresses. A name without addresses exists all the same, as that of a headless Service without
   * ready endpoints does; one that was never set does not.
   */
  readonly set: (name: string, addresses: ReadonlyArray<string>) => Effect.Effect<void>
  /** How often the addresses of that name were asked for. */
  readonly queries: (name: string) => Effect.Effect<number>
}

/** Flags and codes of RFC 1035, 4.1.1, that dns-packet has no names for. */
const refused = 5
const nameError = 3

/** Nobody may keep an answer: what a client does between two queries is then the client's own. */
const ttl = 0

/**
 * A server that keeps what it has answered for so long, and answers the same meanwhile, as those of a cluster do; until the
 * scope closes. That a name has no addresses is not kept.
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
      // no addresses of IPv6, no service config as TXT: the name exists, and has none
      answers: isForAddresses
        ? (addresses ?? []).map((data) => ({ type: "A", name: question.name, ttl, data }) as const)
        : []
    })
  }
  // what is no query gets no answer
  const decode = Option.liftThrowable((bytes: Buffer) => packet.decode(bytes))

  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => createSocket("udp4")),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )
  // a client that has gone before its answer
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

/** A server that keeps nothing, until the scope closes. */
export const make: Effect.Effect<DnsServer, never, Scope.Scope> = makeKeeping(Duration.zero)
