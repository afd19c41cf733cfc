/**
 * Certificate revocation lists (RFC 5280, section 5). OpenSSL rejects revoked certificates in handshakes. This file parses and verifies
 * a list before it is used, and identifies the certificates of open connections that it revokes.
 */
import { createHash, verify, type X509Certificate } from "node:crypto"

import { issuerAndSerial, subjectOf } from "./certificateFields.ts"
import * as DerReader from "./DerReader.ts"

/** Identifies a certificate by its issuer and its serial number, as revocation lists do. */
export type CertificateId = string

/** A revocation list. */
export interface RevocationList {
  /** PEM. */
  readonly pem: string
  /** The issuer's name: DER. */
  readonly issuer: Buffer
  /** In milliseconds since 1970. */
  readonly thisUpdate: number
  /** When the next list is due, in milliseconds since 1970; undefined if the list has no nextUpdate. */
  readonly nextUpdate: number | undefined
  readonly revoked: ReadonlyArray<CertificateId>
  /** Whether the list has the issuer's name and a valid signature of its key. */
  readonly isSignedBy: (issuer: X509Certificate) => boolean
}

/** The id of a certificate, to be looked up in {@link RevocationList.revoked}. */
export const certificateId = (certificate: X509Certificate): CertificateId => {
  const { issuer, serial } = issuerAndSerial(certificate)
  return idOf(issuer, serial)
}

const idOf = (issuer: Buffer, serial: Buffer): CertificateId =>
  `${createHash("sha256").update(issuer).digest("base64url")}:${serial.toString("hex").replace(/^(00)+/, "")}`

/** The digests of signatures by the OID of the algorithm. Ed25519 and Ed448 have none. */
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

/** Parses a list from one PEM block. Throws a RangeError if it is malformed. */
export const parse = (pem: string): RevocationList => {
  const bytes = Buffer.from(pem.replace(/-----[^-]+-----/g, ""), "base64")
  const [tbs, algorithm, signature] = DerReader.children(DerReader.read(bytes))
  if (tbs === undefined || algorithm === undefined || signature === undefined) throw new RangeError("it is truncated")
  const fields = DerReader.children(tbs)
  // the version, an INTEGER, is optional
  const [, issuer, thisUpdate, ...others] = fields[0]?.tag === DerReader.tags.sequence ? fields : fields.slice(1)
  if (issuer === undefined || thisUpdate === undefined || !DerReader.isTime(thisUpdate)) {
    throw new RangeError("it has no issuer or no thisUpdate")
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
      // the first byte of a BIT STRING is the number of unused bits
      verify(digest, tbs.bytes, certificate.publicKey, signature.content.subarray(1))
  }
}
