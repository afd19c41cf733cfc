/**
 * gRPC's interoperability tests between this library and grpc-js alone, in plaintext and over TLS. test/system/Interop.test.ts runs those
 * with Python's grpcio. README.md lists which cases run between which peers.
 */
import { assert, it, layer } from "@effect/vitest"
import { credentials, ServerCredentials } from "@grpc/grpc-js"
import { Context, Effect, Layer } from "effect"

import * as Tls from "../layers/tls/Tls.ts"
import * as Exceptions from "./Exceptions.ts"
import * as GrpcJs from "./GrpcJs.ts"
import * as InteropClient from "./InteropClient.ts"
import * as InteropServer from "./InteropServer.ts"
import { timeLimit, type Transport, transports } from "./InteropService.ts"

/** A server certificate and its authority. Undefined for plaintext. */
const makeIdentity = Effect.fnUntraced(function* (transport: Transport) {
  if (transport === "plaintext") return undefined
  const authority = yield* Tls.makeAuthority()
  return { ca: authority.cert, server: yield* Tls.serverCertificate(authority) }
})

type Identity = Effect.Success<ReturnType<typeof makeIdentity>>

/** Starts a server. Succeeds with its target. */
const servers = {
  "this library": (identity: Identity) => InteropServer.start(identity?.server),
  "grpc-js": (identity: Identity) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.promise(() =>
          GrpcJs.serve(
            identity === undefined
              ? ServerCredentials.createInsecure()
              : ServerCredentials.createSsl(null, [
                  { cert_chain: Buffer.from(identity.server.cert), private_key: Buffer.from(identity.server.key) }
                ])
          )
        ),
        ({ close }) => Effect.sync(close)
      ),
      ({ target }) => target
    )
}

/** A running server. */
class Running extends Context.Service<Running, { readonly target: string; readonly identity: Identity }>()(
  "onlinebooks/test/interop/Running"
) {
  static readonly layer = (server: keyof typeof servers, transport: Transport) =>
    Layer.effect(
      Running,
      Effect.gen(function* () {
        const identity = yield* makeIdentity(transport)
        return { identity, target: yield* servers[server](identity) }
      })
    )
}

/** The cases of a client. */
const clients = {
  "this library": {
    cases: Object.keys(InteropClient.cases) as ReadonlyArray<string>,
    run: (name: string) =>
      Effect.gen(function* () {
        const { identity, target } = yield* Running
        const connection = yield* InteropClient.connectionTo(target, identity?.ca)
        yield* InteropClient.run(name as InteropClient.CaseName, connection)
      })
  },
  "grpc-js": {
    cases: Object.keys(GrpcJs.cases) as ReadonlyArray<string>,
    run: (name: string) =>
      Effect.gen(function* () {
        const { identity, target } = yield* Running
        const connection =
          identity === undefined
            ? { credentials: credentials.createInsecure() }
            : {
                credentials: credentials.createSsl(Buffer.from(identity.ca)),
                options: { "grpc.ssl_target_name_override": "localhost" }
              }
        yield* Effect.promise(() => GrpcJs.run(name as GrpcJs.CaseName, { target, ...connection }))
      })
  }
}

const pairs = [
  { client: "this library", server: "this library" },
  { client: "this library", server: "grpc-js" },
  { client: "grpc-js", server: "this library" }
] as const

for (const { client, server } of pairs) {
  for (const transport of transports) {
    layer(Running.layer(server, transport), { excludeTestServices: true })(
      `client: ${client}, server: ${server}, ${transport}`,
      (it) => {
        for (const name of clients[client].cases) {
          const reason = Exceptions.whyNotDone(name, server)
          const fault = Exceptions.faultOf(name, server)
          const run = () => Effect.timeout(clients[client].run(name), timeLimit)
          if (reason !== undefined) it.effect.skip(`${name} (skipped: ${reason})`, run)
          else if (fault !== undefined) it.effect.fails(`${name} (known fault: ${fault})`, run)
          else it.effect(name, run)
        }
      }
    )
  }
}

it("all exceptions name existing cases", () => {
  const all = new Set(Object.values(clients).flatMap(({ cases }) => cases))
  for (const name of Exceptions.names) assert.isTrue(all.has(name), name)
})
