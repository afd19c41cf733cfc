/**
 * Certificate rotation while a server and a client are running.
 */
import type { ConnectionOptions } from "node:tls"

import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Metric, Option, Schedule, Scope } from "effect"

import type { Issued } from "../../../scripts/certificates.ts"
import * as NodeGrpcChannel from "../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import { GrpcCall } from "../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcClient from "../../../src/layers/grpc/GrpcClient.ts"
import * as GrpcServer from "../../../src/layers/grpc/GrpcServer.ts"
import * as ServerMetrics from "../../../src/layers/grpc/server/ServerMetrics.ts"
import * as Echo from "../grpc/Echo.ts"
import * as Tls from "./Tls.ts"

/** Responds with the names in the peer's certificate. */
const whoami = () =>
  Effect.map(GrpcCall, ({ peer }) => ({ text: peer.names.map(({ value }) => value).join(), items: [] }))

/** A server and a client over mutual TLS. */
const connected = Effect.fnUntraced(function* () {
  const authority = yield* Tls.makeAuthority()
  const server = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
  const client = yield* Tls.watch(yield* Tls.clientCertificate(authority), authority.cert)
  const { port } = yield* Echo.start({ Echo: whoami }, { tls: { certificates: server.watched } })
  const channel = yield* Layer.build(
    NodeGrpcChannel.layer({
      target: `127.0.0.1:${port}`,
      tls: { certificates: client.watched, serverName: "localhost" }
    })
  )
  const { Echo: call } = yield* Effect.provideContext(GrpcClient.make(Echo.EchoService), channel)
  return {
    authority,
    port,
    replaceServer: server.replace,
    replaceClient: client.replace,
    /** Makes a call and returns the names in the client's certificate. */
    call: Effect.map(call({}), ({ text }) => text)
  }
})

/** Reconnects until the server presents a certificate. */
const untilShown = (port: number, options: ConnectionOptions, certificate: Issued) =>
  Effect.repeat(Effect.scoped(Tls.handshake(port, options)), {
    until: ({ fingerprint }) => fingerprint === Tls.fingerprintOf(certificate.cert)
  })

describe("a server certificate", () => {
  it.live.each(["TLSv1.3", "TLSv1.2"] as const)(
    "is replaced while version and ciphers of %s stay the same",
    (maxVersion) =>
      Effect.gen(function* () {
        const { authority, call, port, replaceServer } = yield* connected()
        const options = { ca: authority.cert, ...(yield* Tls.clientCertificate(authority)), maxVersion }
        const first = yield* Effect.scoped(Tls.handshake(port, options))
        assert.strictEqual(first.version, maxVersion)
        for (let round = 0; round < 3; round++) {
          assert.strictEqual(yield* call, "frontend")
          const certificate = yield* Tls.serverCertificate(authority)
          yield* replaceServer(certificate, authority.cert)
          const next = yield* untilShown(port, options, certificate)
          assert.deepStrictEqual([next.version, next.cipher], [first.version, first.cipher])
          // versions before TLS 1.2 are still refused
          yield* Effect.flip(
            Tls.handshake(port, {
              ...options,
              minVersion: "TLSv1.1",
              maxVersion: "TLSv1.1",
              ciphers: "DEFAULT@SECLEVEL=0"
            })
          )
        }
        // still on the first connection
        assert.strictEqual(yield* call, "frontend")
      })
  )
})

describe("a client certificate", () => {
  it.live("is replaced for later calls", () =>
    Effect.gen(function* () {
      const { authority, call, replaceClient } = yield* connected()
      for (const name of ["first", "second", "third"]) {
        yield* replaceClient(yield* Tls.clientCertificate(authority, { names: [`DNS:${name}`] }), authority.cert)
        // no call fails meanwhile
        yield* Effect.repeat(call, { until: (known) => known === name })
      }
    })
  )
})

describe("a client certificate that the server refuses", () => {
  it.live("leaves the open connection in use until a valid certificate replaces it", () =>
    Effect.gen(function* () {
      const { authority, call, replaceClient } = yield* connected()
      assert.strictEqual(yield* call, "frontend")
      const other = yield* Tls.makeAuthority({ commonName: "Other CA" })
      yield* replaceClient(yield* Tls.clientCertificate(other), authority.cert)
      const untrusted = Metric.withAttributes(ServerMetrics.connectionsRefused, { reason: "certificate_untrusted" })
      // until the client has tried to connect, and once more
      yield* Effect.repeat(call, { until: () => Effect.map(Metric.value(untrusted), ({ count }) => count > 0) })
      assert.strictEqual(yield* call, "frontend")

      yield* replaceClient(yield* Tls.clientCertificate(authority, { names: ["DNS:good"] }), authority.cert)
      yield* Effect.repeat(call, { until: (known) => known === "good" })
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})

describe("a client without a usable CA", () => {
  it.live("keeps its connection, cannot reconnect, and recovers after the next valid reload", () =>
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

      // this CA trusts no server: calls use the open connection
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

describe("a certificate authority", () => {
  it.live("is replaced in steps, with both authorities trusted meanwhile", () =>
    Effect.gen(function* () {
      const { authority: old, call, port, replaceClient, replaceServer } = yield* connected()
      const next = yield* Tls.makeAuthority({ commonName: "Next CA" })
      const both = old.cert + next.cert
      const stranger = { ca: both, ...(yield* Tls.clientCertificate(old)) }
      // with TLS 1.2 the session ticket arrives during the handshake
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

      // a client with a certificate of the old authority is refused, also with a session ticket from before
      for (const options of [stranger, { ...stranger, maxVersion: "TLSv1.2" as const, session }]) {
        // with TLS 1.3 the client is refused after its handshake
        const shaken = yield* Effect.option(Tls.handshake(port, options))
        if (Option.isNone(shaken)) continue
        assert.isFalse(shaken.value.socket.isSessionReused())
        yield* Tls.closed(shaken.value.socket)
      }
    })
  )
})
