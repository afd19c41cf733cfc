/**
 * Performs the TLS handshakes of a server: ALPN, the certificate of the client, the list of allowed clients. Connections are refused
 * here, where the reason is known, and not by OpenSSL.
 */
import type { Socket } from "node:net"
import { createServer, type TLSSocket } from "node:tls"

import type { Guard } from "../../telemetry/CallbackGuard.ts"
import * as Certificates from "../../tls/Certificates.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import type { Peer } from "../GrpcCall.ts"
import type { Tls } from "../GrpcServer.ts"
import * as ClientCertificate from "./ClientCertificate.ts"
import type { Refusal } from "./ConnectionRefusal.ts"

/** The identity of a client after its handshake. */
export interface Identity {
  /** The names of its certificate; empty without mutual TLS. */
  readonly names: Peer["names"]
  /** False if the server has an allow list that has none of the names. */
  readonly isAllowed: boolean
  /** Undefined without mutual TLS. */
  readonly certificate: ClientCertificate.ClientCertificate | undefined
}

export interface Options extends Tls {
  /** How long a handshake may take, in milliseconds. */
  readonly handshakeTimeout: number
  readonly guard: Guard
  readonly onSecure: (socket: TLSSocket, identity: Identity) => void
  readonly onRefused: (socket: TLSSocket, refusal: Refusal) => void
}

export interface TlsAcceptor {
  /** Starts the handshake on a connection. */
  readonly accept: (socket: Socket) => void
  /** Sets the certificates of later handshakes. */
  readonly setCertificates: (certificates: Certificates.Certificates) => void
}

export const make = (options: Options): TlsAcceptor => {
  const { allowedClients, certificates, guard, handshakeTimeout, onRefused, onSecure } = options
  const isMutual = certificates.current().ca !== undefined
  const destroy = (socket: TLSSocket) => void socket.destroy()

  const onHandshake = (socket: TLSSocket) => {
    if (isMutual && !socket.authorized) return onRefused(socket, ClientCertificate.whyUnauthorized(socket))
    // OpenSSL refuses clients that offer other protocols only, and accepts those that offer none (RFC 9113, section 3.2)
    if (socket.alpnProtocol !== "h2")
      return onRefused(socket, { reason: "not_http2", detail: "the client does not offer h2 by ALPN" })
    const identity = isMutual ? identify(socket, allowedClients) : anonymous
    const invalid = identity.certificate === undefined ? undefined : ClientCertificate.whyInvalid(identity.certificate)
    if (invalid === undefined) onSecure(socket, identity)
    else onRefused(socket, { reason: "certificate_expired", detail: invalid.message })
  }
  const onError = (error: Error & { readonly reason?: string }, socket: TLSSocket) =>
    // OpenSSL's reason is the message without OpenSSL's file and line
    onRefused(socket, {
      reason: "handshake_failed",
      detail: `TLS handshake failed: ${error.reason ?? error.message}`
    })

  const server = createServer(
    {
      ...Certificates.secureContextOptions(certificates.current()),
      ALPNProtocols: ["h2"],
      handshakeTimeout,
      requestCert: isMutual,
      rejectUnauthorized: false
    },
    guard("TLS connection listener", onHandshake, { recover: destroy })
  )
  server.on("tlsClientError", guard("TLS error listener", onError, { recover: (_, socket) => destroy(socket) }))
  return {
    accept: (socket) => void server.emit("connection", socket),
    setCertificates: (certificates) => server.setSecureContext(Certificates.secureContextOptions(certificates))
  }
}

/** The identity of any client without mutual TLS. */
export const anonymous: Identity = { names: [], isAllowed: true, certificate: undefined }

const identify = (socket: TLSSocket, allowedClients: Tls["allowedClients"]): Identity => {
  const names = PeerIdentity.subjectAltNames(socket.getPeerCertificate())
  return {
    names,
    isAllowed: allowedClients === undefined || PeerIdentity.isAllowed(names, allowedClients),
    certificate: ClientCertificate.of(socket)
  }
}
