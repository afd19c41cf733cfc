/**
 * Clients that a server with mutual TLS refuses, each with one log line and one metric that name the reason, and what the server knows
 * of clients that it accepts.
 */
import { connect as connectTcp } from "node:net"

import { assert, describe, it } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import { Effect, Layer, Logger, Metric, Queue, References, type Scope } from "effect"

import { type Authority, day, type Issued } from "../../../../scripts/certificates.ts"
import * as NodeGrpcChannel from "../../../../src/layers/grpc/client/NodeGrpcChannel.ts"
import { GrpcCall } from "../../../../src/layers/grpc/GrpcCall.ts"
import * as GrpcClient from "../../../../src/layers/grpc/GrpcClient.ts"
import * as Tls from "../../tls/Tls.ts"
import * as Echo from "../Echo.ts"
import * as Refusals from "./Refusals.ts"

interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

const listening = /^gRPC server listening/

/** Serves Echo to clients with a certificate of the authority and the name "frontend" or "spiffe://shop/frontend". */
const serving = Effect.fnUntraced(function* (overrides?: Parameters<typeof Echo.serve>[0]) {
  /** The log lines at Info and above. */
  const lines = yield* Queue.unbounded<Line>()
  /** The log lines at Debug, except those of grpc-js. */
  const debugLines = yield* Queue.unbounded<Line>()
  const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
    const line = {
      level: logLevel,
      message: String(Array.isArray(message) ? message[0] : message),
      annotations: fiber.getRef(References.CurrentLogAnnotations)
    }
    if (listening.test(line.message) || line.message.startsWith("grpc-js")) return
    Queue.offerUnsafe(logLevel === "Debug" ? debugLines : lines, line)
  })
  const authority = yield* Tls.makeAuthority()
  const { watched } = yield* Tls.watch(yield* Tls.serverCertificate(authority), authority.cert)
  const tls = { certificates: watched, allowedClients: new Set(["frontend", "spiffe://shop/frontend"]) }
  const registry: Metric.MetricRegistry = new Map()
  const { port } = yield* Echo.start(overrides, { tls }).pipe(
    Effect.provide(Logger.layer([logger])),
    Effect.provideService(References.MinimumLogLevel, "Debug"),
    Effect.provideService(Metric.MetricRegistry, registry)
  )
  /** The certificate of an accepted client. */
  const good = yield* Tls.clientCertificate(authority)
  const refused = Effect.provideService(Refusals.counts, Metric.MetricRegistry, registry)
  return { port, authority, good, lines, debugLines, refused }
})

type Serving = Effect.Success<ReturnType<typeof serving>>

/** Acts as a client that is refused, until the client notices. */
type RefusedClient = (server: Serving) => Effect.Effect<unknown, unknown, Scope.Scope>

/** A client of grpc-js, which only learns that there is no connection. */
const grpcJs =
  (papers: (server: Serving) => Effect.Effect<Tls.Papers>): RefusedClient =>
  (server) =>
    Effect.gen(function* () {
      const { code, details } = yield* Tls.call(server.port, yield* papers(server))
      assert.strictEqual(code, status.UNAVAILABLE, details)
    })

const withCertificate = (options: Parameters<typeof Tls.clientCertificate>[1]) =>
  grpcJs(({ authority }) =>
    Effect.map(Tls.clientCertificate(authority, options), (identity) => ({ ca: authority.cert, identity }))
  )

const refusedClients: ReadonlyArray<readonly [client: string, act: RefusedClient, reason: string, detail: string]> = [
  [
    "without a certificate",
    grpcJs(({ authority }) => Effect.succeed({ ca: authority.cert })),
    "no_certificate",
    "no client certificate"
  ],
  [
    "with a certificate of another authority",
    grpcJs(({ authority }) =>
      Effect.gen(function* () {
        const other = yield* Tls.makeAuthority({ commonName: "Other CA" })
        return { ca: authority.cert, identity: yield* Tls.clientCertificate(other) }
      })
    ),
    "certificate_untrusted",
    "client certificate DNS:frontend rejected: UNABLE_TO_VERIFY_LEAF_SIGNATURE"
  ],
  [
    "with a self-signed certificate",
    grpcJs(({ authority }) =>
      Effect.map(Tls.makeAuthority({ commonName: String.raw`a\0Ab` }), (identity) => ({ ca: authority.cert, identity }))
    ),
    "certificate_untrusted",
    String.raw`client certificate CN:"a\nb" rejected: INVALID_PURPOSE`
  ],
  [
    "with an expired certificate",
    withCertificate({ notBefore: new Date(Date.now() - 2 * day), notAfter: new Date(Date.now() - day) }),
    "certificate_expired",
    "client certificate DNS:frontend rejected: CERT_HAS_EXPIRED"
  ],
  [
    "with a certificate that is not valid yet",
    withCertificate({ notBefore: new Date(Date.now() + day), notAfter: new Date(Date.now() + 2 * day) }),
    "certificate_untrusted",
    "client certificate DNS:frontend rejected: CERT_NOT_YET_VALID"
  ],
  [
    "with a server's certificate",
    withCertificate({ usage: "server" }),
    "certificate_untrusted",
    "client certificate DNS:frontend rejected: INVALID_PURPOSE"
  ],
  ["in plaintext", grpcJs(() => Effect.succeed({})), "handshake_failed", "TLS handshake failed: wrong version number"],
  [
    "that does not trust the server",
    grpcJs(({ good }) => Effect.map(Tls.makeAuthority(), ({ cert }) => ({ ca: cert, identity: good }))),
    "handshake_failed",
    "the client disconnected during the TLS handshake"
  ],
  [
    "with HTTP/1.1 in plaintext",
    ({ port }) => Effect.flip(Effect.tryPromise(() => fetch(`http://127.0.0.1:${port}/`))),
    "handshake_failed",
    "TLS handshake failed: http request"
  ],
  [
    "with TLS 1.1",
    ({ authority, port }) =>
      Effect.flip(
        // OpenSSL allows it at security level 0 only
        Tls.handshake(port, {
          ca: authority.cert,
          minVersion: "TLSv1.1",
          maxVersion: "TLSv1.1",
          ciphers: "DEFAULT@SECLEVEL=0"
        })
      ),
    "handshake_failed",
    "TLS handshake failed: unsupported protocol"
  ],
  [
    "without a common cipher",
    ({ authority, port }) =>
      Effect.flip(
        Tls.handshake(port, { ca: authority.cert, maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-SHA256" })
      ),
    "handshake_failed",
    "TLS handshake failed: no shared cipher"
  ],
  [
    "that offers only HTTP/1.1 by ALPN",
    ({ authority, good, port }) =>
      Effect.flip(Tls.handshake(port, { ca: authority.cert, ...good, ALPNProtocols: ["http/1.1"] })),
    "handshake_failed",
    "TLS handshake failed: no application protocol"
  ],
  [
    "that does not use ALPN",
    ({ authority, good, port }) =>
      Effect.gen(function* () {
        const { socket } = yield* Tls.handshake(port, { ca: authority.cert, ...good, ALPNProtocols: [] })
        let received = ""
        socket.on("data", (data) => (received += String(data)))
        yield* Tls.closed(socket)
        assert.strictEqual(received, "")
      }),
    "not_http2",
    "the client does not offer h2 by ALPN"
  ],
  [
    "that disconnects during the handshake",
    ({ port }) => sendAndClose(port, halfClientHello),
    "handshake_failed",
    "the client disconnected during the TLS handshake"
  ]
]

/** The first bytes of a ClientHello of 512 bytes. */
const halfClientHello = Buffer.from("16030102000100", "hex")

/** Sends bytes and half-closes the connection, and waits until the server closes it. */
const sendAndClose = (port: number, bytes: Uint8Array) =>
  Effect.callback<void>((resume) => {
    const socket = connectTcp(port, "127.0.0.1", () => socket.end(bytes))
    socket.on("error", () => {})
    socket.on("close", () => resume(Effect.void))
    socket.resume()
  })

describe("the server refuses a client", () => {
  it.live.each(refusedClients)("%s", ([, act, reason, detail]) =>
    Effect.gen(function* () {
      const server = yield* serving()
      const { authority, good, lines, port, refused } = server
      yield* act(server)
      const line = yield* Queue.take(lines)
      assert.strictEqual(line.level, "Warn")
      assert.strictEqual(line.message, "Connection refused")
      assert.deepInclude(line.annotations, { reason, detail })
      assert.match(String(line.annotations["address"]), /^127\.0\.0\.1:\d+$/)
      assert.deepStrictEqual(yield* refused, { [reason]: 1 })

      // an accepted client is served afterwards, without more log lines
      assert.deepStrictEqual(yield* Tls.call(port, { ca: authority.cert, identity: good }), { code: 0, details: "" })
      assert.deepStrictEqual(yield* Queue.clear(lines), [])
      assert.deepStrictEqual(yield* refused, { [reason]: 1 })
    })
  )

  it.live("that is not in allowedClients, with PERMISSION_DENIED", () =>
    Effect.gen(function* () {
      const { authority, good, lines, port, refused } = yield* serving()
      const identity = yield* Tls.clientCertificate(authority, {
        names: ["DNS:backend", "URI:spiffe://shop/backend"]
      })
      assert.deepStrictEqual(yield* Tls.call(port, { ca: authority.cert, identity }), {
        code: status.PERMISSION_DENIED,
        details: "This client may not call this server"
      })
      const { annotations, message } = yield* Queue.take(lines)
      assert.strictEqual(message, "Connection refused")
      assert.deepInclude(annotations, {
        reason: "not_on_the_list",
        detail: "client is not in the allow list: DNS:backend, URI:spiffe://shop/backend"
      })
      assert.strictEqual((yield* Tls.call(port, { ca: authority.cert, identity: good })).code, 0)
      // the access log line of the call, and no second one of the connection
      assert.deepStrictEqual(
        (yield* Queue.clear(lines)).map(({ message }) => message),
        ["gRPC call failed: This client may not call this server"]
      )
      assert.deepStrictEqual(yield* refused, { not_on_the_list: 1 })
    })
  )

  it.live("that closes the connection without sending bytes, without a log line", () =>
    Effect.gen(function* () {
      const { authority, good, lines, port, refused } = yield* serving()
      yield* sendAndClose(port, new Uint8Array())
      assert.strictEqual((yield* Tls.call(port, { ca: authority.cert, identity: good })).code, 0)
      assert.deepStrictEqual(yield* Queue.clear(lines), [])
      assert.deepStrictEqual(yield* refused, {})
    })
  )
})

describe("an accepted client", () => {
  it.live("is named to handlers, and in the log lines of its connection and of a defect", () =>
    Effect.gen(function* () {
      const { authority, debugLines, lines, port } = yield* serving({
        Echo: () =>
          Effect.map(GrpcCall, ({ peer }) => ({
            text: [peer.address, ...peer.names.map(({ type, value }) => `${type}=${value}`)].join(" | "),
            items: []
          })),
        EchoOnce: () => Effect.die(new Error("a bug"))
      })
      const { client } = yield* connect(port, authority, {
        identity: yield* Tls.clientCertificate(authority, { names: ["DNS:a b", "URI:spiffe://shop/frontend"] })
      })
      const { text } = yield* client.Echo({})
      const [address, ...names] = text.split(" | ")
      assert.match(address!, /^127\.0\.0\.1:\d+$/)
      assert.deepStrictEqual(names, ["DNS=a b", "URI=spiffe://shop/frontend"])
      const known = { peer: address, peerNames: 'DNS:"a b", URI:spiffe://shop/frontend' }

      const secured = yield* Queue.take(debugLines)
      assert.strictEqual(secured.message, "TLS handshake completed")
      assert.deepInclude(secured.annotations, { version: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256", ...known })

      const { reason } = yield* Effect.flip(client.EchoOnce({}))
      assert.strictEqual(reason._tag, "Internal")
      const bug = yield* Queue.take(lines)
      assert.strictEqual(bug.message, "Unexpected error in a gRPC handler")
      assert.deepInclude(bug.annotations, known)

      // both calls use one connection, and the line of the second call is that of the defect
      assert.deepStrictEqual(
        (yield* Queue.clear(debugLines)).map(({ annotations, message }) => [message, annotations["method"]]),
        [["gRPC call completed", `${Echo.EchoService.name}/Echo`]]
      )
    })
  )

  it.live("does not call a server with another name, and its error says why", () =>
    Effect.gen(function* () {
      const { authority, good, port } = yield* serving()
      const { client } = yield* connect(port, authority, { identity: good, serverName: "elsewhere" })
      const { reason } = yield* Effect.flip(client.Echo({}))
      assert.strictEqual(reason._tag, "Unavailable")
      assert.match(reason.message, /Host: elsewhere\. is not in the cert's altnames: DNS:localhost/)
    })
  )

  it.live("does not call a server with a certificate of another authority, and its error says why", () =>
    Effect.gen(function* () {
      const { good, port } = yield* serving()
      const { client } = yield* connect(port, yield* Tls.makeAuthority(), { identity: good })
      const { reason } = yield* Effect.flip(client.Echo({}))
      assert.strictEqual(reason._tag, "Unavailable")
      assert.match(reason.message, /Last error: Error: self-signed certificate in certificate chain/)
    })
  )
})

/** A client of this library for a port. */
const connect = Effect.fnUntraced(function* (
  port: number,
  authority: Authority,
  { identity, serverName = "localhost" }: { readonly identity?: Issued; readonly serverName?: string }
) {
  const { replace, watched } = yield* Tls.watch(identity, authority.cert)
  const channel = yield* Layer.build(
    NodeGrpcChannel.layer({ target: `127.0.0.1:${port}`, tls: { certificates: watched, serverName } })
  )
  const client = yield* GrpcClient.make(Echo.EchoService).pipe(Effect.provideContext(channel))
  return { client, replace }
})
