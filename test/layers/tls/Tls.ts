/**
 * Certificates without files, and clients that come with them.
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

/** A certificate for 127.0.0.1 under the name of localhost. */
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

/** What looks like files that are watched, and what puts others in their place. */
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

/** How a connection of node:tls to 127.0.0.1 ended, or what it came to. */
export interface Handshake {
  readonly socket: TLSSocket
  readonly fingerprint: string
  readonly version: SecureVersion
  readonly cipher: string
}

/** A handshake of node:tls, whose connection is closed with the scope. */
export const handshake = (port: number, options: ConnectionOptions) =>
  Effect.acquireRelease(
    Effect.callback<TLSSocket, Error>((resume) => {
      const socket = connect({ host: "127.0.0.1", port, servername: "localhost", ALPNProtocols: ["h2"], ...options })
      socket.once("error", (error) => resume(Effect.fail(error)))
      socket.once("secureConnect", () => {
        // it may be refused yet
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

/** Waits until the server has said the first word of HTTP/2; fails if it closes the connection instead. */
export const served = (socket: TLSSocket) =>
  Effect.callback<void, string>((resume) => {
    socket.once("data", () => resume(Effect.void))
    socket.once("close", () => resume(Effect.fail("closed")))
  })

/** Of a certificate as PEM, as {@link Handshake.fingerprint} is. */
export const fingerprintOf = (cert: string): string => new X509Certificate(cert).fingerprint256

/** Waits until the other side has closed a connection. */
export const closed = (socket: TLSSocket) =>
  Effect.callback<void>((resume) => {
    if (socket.destroyed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
    // who does not read does not learn of the end
    socket.resume()
  })

/** What a client of grpc-js has to say for itself; without anything it speaks plaintext. */
export interface Papers {
  readonly ca?: string | undefined
  readonly identity?: Issued | undefined
}

/** How one call of Echo ended, that grpc-js has made by itself on a connection of its own. */
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
