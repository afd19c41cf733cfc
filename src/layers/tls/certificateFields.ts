/**
 * Fields of X.509 certificates (RFC 5280, section 4.1) that node:crypto does not expose.
 */
import type { X509Certificate } from "node:crypto"

import * as DerReader from "./DerReader.ts"

/** The fields of `tbsCertificate` from the serial number on, without the optional version before it. */
const fieldsOf = (certificate: X509Certificate): ReadonlyArray<DerReader.Value> => {
  const [tbs] = DerReader.children(DerReader.read(certificate.raw))
  const fields = DerReader.children(tbs!)
  return fields[0]?.tag === 0xa0 ? fields.slice(1) : fields
}

/** The issuer's name (DER) and the serial number (a DER integer's content), which together identify a certificate. */
export const issuerAndSerial = (certificate: X509Certificate): { readonly issuer: Buffer; readonly serial: Buffer } => {
  const [serial, , issuer] = fieldsOf(certificate)
  return { issuer: issuer!.bytes, serial: serial!.content }
}

/** The subject's name: DER. */
export const subjectOf = (certificate: X509Certificate): Buffer => fieldsOf(certificate)[4]!.bytes

const keyUsageOid = "2.5.29.15"

/** digitalSignature, keyEncipherment and keyAgreement (RFC 5280, section 4.2.1.3): a TLS handshake needs one of them. */
const handshakeUsages = 0x80 | 0x20 | 0x08

/** Whether the key usage extension allows a TLS handshake. True without the extension. */
export const allowsHandshake = (certificate: X509Certificate): boolean => {
  const extensions = fieldsOf(certificate).find(({ tag }) => tag === 0xa3)
  if (extensions === undefined) return true
  for (const extension of DerReader.children(DerReader.children(extensions)[0]!)) {
    const [id, ...rest] = DerReader.children(extension)
    if (DerReader.oid(id!) !== keyUsageOid) continue
    const bits = DerReader.read(rest.at(-1)!.content).content
    return ((bits[1] ?? 0) & handshakeUsages) !== 0
  }
  return true
}
