/**
 * Certificates that take the place of others while a server and a client run.
 */
import type { ConnectionOptions } from "node:tls"

import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Metric, Option, Schedule, Scope } from "effect"

import { type Authority, type Issued } from "../../../scripts/certificates.ts"
import * as NodeGrpcChannel from "../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import { GrpcCall } from "../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import * as NodeGrpcServer from "../../../src/layers/grpc/server/NodeGrpcServer.ts"
import * as Echo from "../grpc/Echo.ts"
import * as Tls from "./Tls.ts"

/** Answers with the names of who has called. */
const whoami = () =>
  Effect.map(GrpcCall, ({ peer }) => ({ text: peer.names.map(({ value }) => value).join(), items: [] }))

/** A server and a client of it, over mutual TLS. */
const withBoth = <A, E>(
  trial: (trial: {
    readonly authority: Authority
    readonly port: number
    readonly replaceServer: (identity: Issued, ca: string) => Effect.Effect<void>
    readonly replaceClient: (identity: Issued, ca: string) => Effect.Effect<void>
    /** The names by which the server knows the client of the next call. */
    readonly call: Effect.Effect<string, unknown>
  }) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.gen(function* () {
    const authority = yield* Tls.makeAuthority()
    const server = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
    const client = yield* Tls.watch(yield* Tls.clientCertificate(authority), authority.cert)
    const context = yield* Layer.build(Echo.serve({ Echo: whoami }, { tls: { certificates: server.watched } }))
    const { port } = yield* Context.get(context, GrpcServer.GrpcServer).address
    const channel = yield* Layer.build(
      NodeGrpcChannel.layer({
        target: `127.0.0.1:${port}`,
        tls: { certificates: client.watched, serverName: "localhost" }
      })
    )
    const { Echo: call } = yield* Effect.provideContext(
      GrpcClient.make(Echo.EchoService),
      Context.merge(context, channel)
    )
    return yield* trial({
      authority,
      port,
      replaceServer: server.replace,
      replaceClient: client.replace,
      call: Effect.map(call({}), ({ text }) => text)
    })
  }).pipe(Effect.scoped)

/** Connects again and again until the server shows that certificate. */
const untilShown = (port: number, options: ConnectionOptions, certificate: Issued) =>
  Effect.repeat(Effect.scoped(Tls.handshake(port, options)), {
    until: ({ fingerprint }) => fingerprint === Tls.fingerprintOf(certificate.cert)
  })

describe("the certificate of a server", () => {
  it.live.each(["TLSv1.3", "TLSv1.2"] as const)("is replaced, and nothing else of %s", (maxVersion) =>
    withBoth(({ authority, call, port, replaceServer }) =>
      Effect.gen(function* () {
        const options = { ca: authority.cert, ...(yield* Tls.clientCertificate(authority)), maxVersion }
        const first = yield* Effect.scoped(Tls.handshake(port, options))
        assert.strictEqual(first.version, maxVersion)
        for (let round = 0; round < 3; round++) {
          assert.strictEqual(yield* call, "frontend")
          const certificate = yield* Tls.serverCertificate(authority)
          yield* replaceServer(certificate, authority.cert)
          const next = yield* untilShown(port, options, certificate)
          assert.deepStrictEqual([next.version, next.cipher], [first.version, first.cipher])
          // what is too old for us has not come back
          yield* Effect.flip(
            Tls.handshake(port, {
              ...options,
              minVersion: "TLSv1.1",
              maxVersion: "TLSv1.1",
              ciphers: "DEFAULT@SECLEVEL=0"
            })
          )
        }
        // the connection is the first one still
        assert.strictEqual(yield* call, "frontend")
      })
    )
  )
})

describe("the certificate of a client", () => {
  it.live("is replaced for calls to come", () =>
    withBoth(({ authority, call, replaceClient }) =>
      Effect.gen(function* () {
        for (const name of ["first", "second", "third"]) {
          yield* replaceClient(yield* Tls.clientCertificate(authority, { names: [`DNS:${name}`] }), authority.cert)
          // none of them fails meanwhile
          yield* Effect.repeat(call, { until: (known) => known === name })
        }
      })
    )
  )
})

describe("a certificate that the server does not accept", () => {
  it.live("does not replace a connection that works, and the next one does", () =>
    withBoth(({ authority, call, replaceClient }) =>
      Effect.gen(function* () {
        assert.strictEqual(yield* call, "frontend")
        const other = yield* Tls.makeAuthority({ commonName: "Other CA" })
        yield* replaceClient(yield* Tls.clientCertificate(other), authority.cert)
        const untrusted = Metric.withAttributes(NodeGrpcServer.connectionsRefused, { reason: "certificate_untrusted" })
        // until it has tried, and once more
        yield* Effect.repeat(call, { until: () => Effect.map(Metric.value(untrusted), ({ count }) => count > 0) })
        assert.strictEqual(yield* call, "frontend")

        yield* replaceClient(yield* Tls.clientCertificate(authority, { names: ["DNS:good"] }), authority.cert)
        yield* Effect.repeat(call, { until: (known) => known === "good" })
      })
    ).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})

describe("a certificate by which a client does not get connected", () => {
  it.live("takes the place of one whose connection is lost, and good ones after it are taken up", () =>
    Effect.gen(function* () {
      const authority = yield* Tls.makeAuthority()
      const other = yield* Tls.makeAuthority({ commonName: "Other CA" })
      const identity = yield* Tls.clientCertificate(authority)
      const server = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
      const client = yield* Tls.watch(identity, authority.cert)
      const serving = yield* Scope.make()
      const serve = (port: number) =>
        Effect.map(
          Layer.build(Echo.serve({ Echo: whoami }, { port, tls: { certificates: server.watched } })),
          Context.get(GrpcServer.GrpcServer)
        ).pipe(Effect.flatMap(({ address }) => address))
      const { port } = yield* Scope.provide(serve(0), serving)
      const context = yield* Layer.build(
        NodeGrpcChannel.layer({
          target: `127.0.0.1:${port}`,
          policy: { connectTimeout: Duration.millis(200), connectMaxBackoff: Duration.millis(100) },
          tls: { certificates: client.watched, serverName: "localhost" }
        })
      )
      const { Echo: call } = yield* Effect.provideContext(GrpcClient.make(Echo.EchoService), context)
      const failure = Effect.map(Effect.flip(call({}, { timeout: "5 seconds" })), ({ reason }) => reason._tag)
      yield* call({})

      // by this one, no server is trusted: calls go on with the connection that there is
      yield* client.replace(identity, other.cert)
      yield* call({})
      yield* Scope.close(serving, Exit.void)
      for (let round = 0; round < 3; round++) assert.strictEqual(yield* failure, "Unavailable")
      yield* serve(port)
      assert.strictEqual(yield* failure, "Unavailable")

      yield* client.replace(identity, authority.cert)
      const { text } = yield* call({}, { timeout: "5 seconds" }).pipe(
        Effect.retry(Schedule.spaced("20 millis")),
        Effect.timeout("10 seconds")
      )
      assert.strictEqual(text, "frontend")
    })
  )
})

describe("an authority", () => {
  it.live("is replaced by way of both", () =>
    withBoth(({ authority: old, call, port, replaceClient, replaceServer }) =>
      Effect.gen(function* () {
        const next = yield* Tls.makeAuthority({ commonName: "Next CA" })
        const both = old.cert + next.cert
        const stranger = { ca: both, ...(yield* Tls.clientCertificate(old)) }
        // TLS 1.2 has the ticket by the end of the handshake
        const { socket } = yield* Tls.handshake(port, { ...stranger, maxVersion: "TLSv1.2" })
        const session = socket.getSession()!

        const [server, client, fresh] = yield* Effect.all([
          Tls.serverCertificate(next),
          Tls.clientCertificate(next, { names: ["DNS:next"] }),
          Tls.serverCertificate(next)
        ])
        yield* replaceServer(yield* Tls.serverCertificate(old), both)
        yield* replaceClient(yield* Tls.clientCertificate(old, { names: ["DNS:both"] }), both)
        yield* Effect.repeat(call, { until: (known) => known === "both" })
        yield* replaceServer(server, both)
        yield* replaceClient(client, both)
        yield* Effect.repeat(call, { until: (known) => known === "next" })
        yield* replaceServer(fresh, next.cert)
        yield* replaceClient(client, next.cert)

        yield* untilShown(port, { ca: next.cert, ...client }, fresh)
        assert.strictEqual(yield* call, "next")

        // who has a certificate of the old one is not served any more, nor by a ticket of the time when it was
        for (const options of [stranger, { ...stranger, maxVersion: "TLSv1.2" as const, session }]) {
          // by TLS 1.3 it hears of it after its handshake
          const shaken = yield* Effect.option(Tls.handshake(port, options))
          if (Option.isNone(shaken)) continue
          assert.isFalse(shaken.value.socket.isSessionReused())
          yield* Tls.closed(shaken.value.socket)
        }
      })
    )
  )
})
