/**
 * Certificate revocation lists (RFC 5280, section 5). OpenSSL refuses revoked certificates in handshakes. This file validates a list
 * before it is used, and finds the open connections whose certificates it revokes.
 */
import { createHash, verify, type X509Certificate } from "node:crypto"

import * as DerReader from "./DerReader.ts"

/** Names a certificate as revocation lists do: by its issuer and its serial number. */
export type CertificateId = string

/** One list. */
export interface RevocationList {
  /** PEM. */
  readonly pem: string
  /** The issuer's name: DER. */
  readonly issuer: Buffer
  /** In milliseconds since 1970. */
  readonly thisUpdate: number
  /** When the next list is there at the latest, in milliseconds since 1970; undefined if it does not say. */
  readonly nextUpdate: number | undefined
  readonly revoked: ReadonlyArray<CertificateId>
  /** Whether a certificate has signed it. */
  readonly isSignedBy: (issuer: X509Certificate) => boolean
}

const idOf = (issuer: Buffer, serial: Buffer): CertificateId =>
  `${createHash("sha256").update(issuer).digest("base64url")}:${serial.toString("hex").replace(/^(00)+/, "")}`

/** The fields of a certificate's `tbsCertificate`, from the serial number on: the version before it is optional. */
const fieldsOf = (certificate: X509Certificate): ReadonlyArray<DerReader.Value> => {
  const [tbs] = DerReader.children(DerReader.read(certificate.raw))
  const fields = DerReader.children(tbs!)
  return fields[0]?.tag === 0xa0 ? fields.slice(1) : fields
}

export const certificateId = (certificate: X509Certificate): CertificateId => {
  const [serial, , issuer] = fieldsOf(certificate)
  return idOf(issuer!.bytes, serial!.content)
}

const subjectOf = (certificate: X509Certificate): Buffer => fieldsOf(certificate)[4]!.bytes

/** The digest of a signature, by the OID of its algorithm; Ed25519 and Ed448 have none of their own. */
const digests: { readonly [oid: string]: string | null } = {
  "1.2.840.10045.4.3.2": "sha256",
  "1.2.840.10045.4.3.3": "sha384",
  "1.2.840.10045.4.3.4": "sha512",
  "1.2.840.113549.1.1.11": "sha256",
  "1.2.840.113549.1.1.12": "sha384",
  "1.2.840.113549.1.1.13": "sha512",
  "1.3.101.112": null,
  "1.3.101.113": null
}

/** Reads a list from one block of PEM. Throws if it is none. */
export const parse = (pem: string): RevocationList => {
  const bytes = Buffer.from(pem.replace(/-----[^-]+-----/g, ""), "base64")
  const [tbs, algorithm, signature] = DerReader.children(DerReader.read(bytes))
  if (tbs === undefined || algorithm === undefined || signature === undefined) throw new RangeError("it is cut off")
  const fields = DerReader.children(tbs)
  // the version is an INTEGER, and may be left out
  const [, issuer, thisUpdate, ...others] = fields[0]?.tag === DerReader.tags.sequence ? fields : fields.slice(1)
  if (issuer === undefined || thisUpdate === undefined || !DerReader.isTime(thisUpdate)) {
    throw new RangeError("it has no issuer or no date")
  }
  const nextUpdate = others.find(DerReader.isTime)
  const entries = others.find(({ tag }) => tag === DerReader.tags.sequence)
  const digest = digests[DerReader.oid(DerReader.children(algorithm)[0]!)]
  return {
    pem,
    issuer: issuer.bytes,
    thisUpdate: DerReader.time(thisUpdate),
    nextUpdate: nextUpdate === undefined ? undefined : DerReader.time(nextUpdate),
    revoked: (entries === undefined ? [] : DerReader.children(entries)).map((entry) =>
      idOf(issuer.bytes, DerReader.read(entry.content).content)
    ),
    isSignedBy: (certificate) =>
      digest !== undefined &&
      subjectOf(certificate).equals(issuer.bytes) &&
      // the first byte of a BIT STRING counts the bits that are not used
      verify(digest, tbs.bytes, certificate.publicKey, signature.content.subarray(1))
  }
}

/** The usages of a key (RFC 5280, section 4.2.1.3) that a TLS handshake needs one of. */
const handshakeUsages = 0x80 | 0x20 | 0x08

/** Whether the key of a certificate may be used in a TLS handshake: to sign, or to agree on a key. */
export const isForHandshakes = (certificate: X509Certificate): boolean => {
  const extensions = fieldsOf(certificate).find(({ tag }) => tag === 0xa3)
  if (extensions === undefined) return true
  for (const extension of DerReader.children(DerReader.children(extensions)[0]!)) {
    const [id, ...rest] = DerReader.children(extension)
    if (DerReader.oid(id!) !== "2.5.29.15") continue
    const bits = DerReader.read(rest.at(-1)!.content).content
    return ((bits[1] ?? 0) & handshakeUsages) !== 0
  }
  return true
}
