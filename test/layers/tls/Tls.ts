/**
 * Certificates in memory, and TLS clients that use them, for tests.
 */
import { X509Certificate } from "node:crypto"
import { connect, type ConnectionOptions, type SecureVersion, type TLSSocket } from "node:tls"

import { Client, type ChannelOptions, credentials, type ServiceError } from "@grpc/grpc-js"
import { Effect, Redacted, SubscriptionRef } from "effect"

import {
  type Authority,
  issue,
  type Issued,
  type IssueOptions,
  makeAuthority as make,
  revoke as makeList
} from "../../../scripts/certificates.ts"
import * as Certificates from "../../../src/layers/tls/Certificates.ts"
import * as RevocationList from "../../../src/layers/tls/RevocationList.ts"
import * as Echo from "../grpc/Echo.ts"

export const makeAuthority = (options?: Parameters<typeof make>[0]) => Effect.promise(() => make(options))

/** A server certificate for localhost. */
export const serverCertificate = (authority: Authority, options: Partial<IssueOptions> = {}) =>
  Effect.promise(() => issue(authority, { names: ["DNS:localhost"], usage: "server", ...options }))

/** A certificate revocation list. */
export const revoke = (authority: Authority, certificates: ReadonlyArray<Issued>) =>
  Effect.promise(() => makeList(authority, certificates))

export const clientCertificate = (authority: Authority, options: Partial<IssueOptions> = {}) =>
  Effect.promise(() => issue(authority, { names: ["DNS:frontend"], usage: "client", ...options }))

const toCertificates = (
  identity: Issued | undefined,
  ca: string | undefined,
  crl?: string
): Certificates.Certificates => ({
  crl:
    crl === undefined ? undefined : { lists: [crl], notAfter: 0, revoked: new Set(RevocationList.parse(crl).revoked) },
  identity:
    identity === undefined
      ? undefined
      : { cert: identity.cert, key: Redacted.make(identity.key), notAfter: 0, subject: "", subjectAltNames: [] },
  ca: ca === undefined ? undefined : { pem: ca, notAfter: 0 }
})

/** A stand-in for watched files, and a function that replaces their certificates. */
export const watch = Effect.fnUntraced(function* (identity: Issued | undefined, ca?: string, crl?: string) {
  const current = yield* SubscriptionRef.make(toCertificates(identity, ca, crl))
  const watched: Certificates.Watched = {
    current: () => SubscriptionRef.getUnsafe(current),
    changes: SubscriptionRef.changes(current)
  }
  return {
    watched,
    replace: (identity: Issued | undefined, ca?: string, crl?: string) =>
      SubscriptionRef.set(current, toCertificates(identity, ca, crl))
  }
})

/** A completed TLS handshake. */
export interface Handshake {
  readonly socket: TLSSocket
  readonly fingerprint: string
  readonly version: SecureVersion
  readonly cipher: string
}

/** Connects to 127.0.0.1 by node:tls; the scope closes the connection. */
export const handshake = (port: number, options: ConnectionOptions) =>
  Effect.acquireRelease(
    Effect.callback<TLSSocket, Error>((resume) => {
      const socket = connect({ host: "127.0.0.1", port, servername: "localhost", ALPNProtocols: ["h2"], ...options })
      socket.once("error", (error) => resume(Effect.fail(error)))
      socket.once("secureConnect", () => {
        // with TLS 1.3 the server may still refuse the certificate
        socket.on("error", () => {})
        resume(Effect.succeed(socket))
      })
    }),
    (socket) => Effect.sync(() => socket.destroy())
  ).pipe(
    Effect.map((socket): Handshake => ({
      socket,
      fingerprint: socket.getPeerX509Certificate()?.fingerprint256 ?? "",
      version: socket.getProtocol() as SecureVersion,
      cipher: socket.getCipher().name
    }))
  )

/** Waits for the first HTTP/2 frame of the server; fails if it closes the connection instead. */
export const served = (socket: TLSSocket) =>
  Effect.callback<void, string>((resume) => {
    socket.once("data", () => resume(Effect.void))
    socket.once("close", () => resume(Effect.fail("closed")))
  })

/** The fingerprint of a PEM certificate, comparable to {@link Handshake.fingerprint}. */
export const fingerprintOf = (cert: string): string => new X509Certificate(cert).fingerprint256

/** Waits until the peer has closed a connection. */
export const closed = (socket: TLSSocket) =>
  Effect.callback<void>((resume) => {
    if (socket.destroyed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
    // the end is only noticed while reading
    socket.resume()
  })

/** The TLS credentials of a grpc-js client; without a CA it uses plaintext. */
export interface Papers {
  readonly ca?: string | undefined
  readonly identity?: Issued | undefined
}

/** Calls Echo with a plain grpc-js client on a new connection, and returns the status. */
export const call = (port: number, { ca, identity }: Papers, options: ChannelOptions = {}) =>
  Effect.callback<{ readonly code: number; readonly details: string }>((resume) => {
    const bytes = (text: string | undefined) => (text === undefined ? null : Buffer.from(text))
    const client = new Client(
      `127.0.0.1:${port}`,
      ca === undefined
        ? credentials.createInsecure()
        : credentials.createSsl(bytes(ca), bytes(identity?.key), bytes(identity?.cert)),
      {
        "grpc.use_local_subchannel_pool": 1,
        ...(ca === undefined ? {} : { "grpc.ssl_target_name_override": "localhost" }),
        ...options
      }
    )
    const identityOf = (message: Buffer) => message
    client.makeUnaryRequest(
      `/${Echo.EchoService.name}/Echo`,
      identityOf,
      identityOf,
      Buffer.alloc(0),
      (error: ServiceError | null) => {
        client.close()
        resume(Effect.succeed({ code: error?.code ?? 0, details: error?.details ?? "" }))
      }
    )
  })
