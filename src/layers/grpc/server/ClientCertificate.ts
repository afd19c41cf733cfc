/**
 * The certificate of a client on a mutual TLS connection: whether it is trusted at the handshake, and whether it still is while the
 * connection is open (RFC 5280).
 */
import type { X509Certificate } from "node:crypto"
import type { TLSSocket } from "node:tls"

import * as Certificates from "../../tls/Certificates.ts"
import * as PeerIdentity from "../../tls/PeerIdentity.ts"
import * as RevocationList from "../../tls/RevocationList.ts"
import * as Status from "../Status.ts"
import type { Refusal } from "./ConnectionRefusal.ts"

export interface ClientCertificate {
  /** The earliest expiry of the chain's certificates, in milliseconds since 1970. */
  readonly notAfter: number
  /** The certificates of the chain. */
  readonly ids: ReadonlyArray<RevocationList.CertificateId>
  /** Set when a revocation list names one of {@link ClientCertificate.ids}. */
  isRevoked: boolean
}

/** The longest chain that is followed; OpenSSL accepts 100 certificates. */
const maxChain = 20

/** The certificate that a client has presented in its TLS handshake. */
export const of = (socket: TLSSocket): ClientCertificate => {
  let notAfter = Infinity
  const ids: Array<RevocationList.CertificateId> = []
  let certificate = socket.getPeerX509Certificate()
  while (certificate !== undefined && ids.length < maxChain) {
    notAfter = Math.min(notAfter, Certificates.notAfterOf(certificate))
    ids.push(RevocationList.certificateId(certificate))
    const issuerCertificate: X509Certificate | undefined = certificate.issuerCertificate
    certificate = issuerCertificate?.fingerprint256 === certificate.fingerprint256 ? undefined : issuerCertificate
  }
  return { notAfter, ids, isRevoked: false }
}

const expired = Status.unauthenticated("The certificate of this client has expired")
const revoked = Status.unauthenticated("The certificate of this client has been revoked")

/** Why a certificate that was trusted at the handshake no longer is; undefined while it is. */
export const whyInvalid = ({ isRevoked, notAfter }: ClientCertificate): Status.Status | undefined =>
  // a certificate is valid through the whole of its last second (RFC 5280, section 4.1.2.5)
  isRevoked ? revoked : Date.now() >= notAfter + 1000 ? expired : undefined

/** The reasons of OpenSSL's errors; the others are `certificate_untrusted`. */
const reasons: { readonly [error: string]: Refusal["reason"] } = {
  CERT_HAS_EXPIRED: "certificate_expired",
  CERT_REVOKED: "certificate_revoked"
}

/** Why OpenSSL has not authorized the client of a handshake. */
export const whyUnauthorized = (socket: TLSSocket): Refusal => {
  const certificate = socket.getPeerCertificate()
  if (Object.keys(certificate).length === 0) return { reason: "no_certificate", detail: "no client certificate" }
  const error = String(socket.authorizationError)
  // formatted, since an untrusted certificate may contain line breaks
  const subject =
    PeerIdentity.format(PeerIdentity.subjectAltNames(certificate)) ||
    PeerIdentity.format([{ type: "CN", value: [certificate.subject.CN ?? "nobody"].flat().join() }])
  return {
    reason: reasons[error] ?? "certificate_untrusted",
    detail: `client certificate ${subject} rejected: ${error}`
  }
}
