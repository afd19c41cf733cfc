/**
 * Validated certificates, certificate authorities and revocation lists, and the TLS options made from them.
 */
import { constants, type X509Certificate } from "node:crypto"
import type { SecureContextOptions } from "node:tls"

import { Redacted, type Stream } from "effect"

import * as PeerIdentity from "./PeerIdentity.ts"
import type * as RevocationList from "./RevocationList.ts"

/** The certificate that a server or a client presents, and its private key. */
export interface Identity {
  /** The certificate and its intermediate certificates: PEM. */
  readonly cert: string
  /** PEM. */
  readonly key: Redacted.Redacted<string>
  /** When the first certificate of the chain expires, in milliseconds since 1970. */
  readonly notAfter: number
  /** The subject in one line, for the log. */
  readonly subject: string
  readonly subjectAltNames: ReadonlyArray<PeerIdentity.SubjectAltName>
}

/** The trusted certificate authorities. */
export interface Authorities {
  /** One certificate or more: PEM. */
  readonly pem: string
  /** When the last of them expires, in milliseconds since 1970. */
  readonly notAfter: number
}

/** Certificate revocation lists (RFC 5280, section 5). */
export interface Revocations {
  /** PEM, one string per list. */
  readonly lists: ReadonlyArray<string>
  /** When the first list expires, in milliseconds since 1970. From then on, OpenSSL rejects every certificate of its CA. */
  readonly notAfter: number
  readonly revoked: ReadonlySet<RevocationList.CertificateId>
}

/** The contents of {@link CertificateFiles}, validated. */
export interface Certificates {
  readonly identity?: Identity | undefined
  readonly ca?: Authorities | undefined
  readonly crl?: Revocations | undefined
}

/** Certificates that are reloaded when their files change. */
export interface Watched {
  /** The certificates in use. */
  readonly current: () => Certificates
  /** The certificates in use, then each successful reload. */
  readonly changes: Stream.Stream<Certificates>
}

/** How certificates are used: "server" or "client". Other values, which tests use, skip the checks of key usage and names. */
export type Role = string

/**
 * Options for `tls.createSecureContext`. They also set versions and ciphers, since a reload creates a new context. For TLS 1.2 only
 * AEAD ciphers with forward secrecy are allowed, as HTTP/2 requires (RFC 9113, appendix A); TLS 1.3 has no others.
 *
 * Session resumption is disabled: a resumed session presents no certificate, so it would outlive expiry and revocation. Without
 * tickets OpenSSL cannot resume a session here (with TLS 1.3 it still sends some, which do not work).
 */
export const secureContextOptions = ({ ca, crl, identity }: Certificates): SecureContextOptions => ({
  ...(identity === undefined ? {} : { cert: identity.cert, key: Redacted.value(identity.key) }),
  ...(ca === undefined ? {} : { ca: ca.pem }),
  ...(crl === undefined ? {} : { crl: [...crl.lists] }),
  secureOptions: constants.SSL_OP_NO_TICKET,
  minVersion: "TLSv1.2",
  maxVersion: "TLSv1.3",
  ciphers
})

const ciphers = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "TLS_CHACHA20_POLY1305_SHA256",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305"
].join(":")

/** Subject, names and expiry in one line, for the log. */
export const describe = ({ ca, crl, identity }: Certificates): string =>
  [
    ...(identity === undefined
      ? []
      : [
          `certificate ${[identity.subject, PeerIdentity.format(identity.subjectAltNames)].filter(Boolean).join(", ")}` +
            ` is valid until ${formatTime(identity.notAfter)}`
        ]),
    ...(ca === undefined ? [] : [`CA is valid until ${formatTime(ca.notAfter)}`]),
    ...(crl === undefined
      ? []
      : [`CRL with ${crl.revoked.size} revoked certificates is valid until ${formatTime(crl.notAfter)}`])
  ].join("; ")

/** When a certificate expires, in milliseconds since 1970; 0 if Node cannot represent the date. */
export const notAfterOf = (certificate: X509Certificate): number => Date.parse(certificate.validTo) || 0

/** Formats milliseconds since 1970 as ISO 8601 without a fraction: "2026-01-31T00:00:00Z". */
export const formatTime = (millis: number): string => new Date(millis).toISOString().replace(".000", "")
