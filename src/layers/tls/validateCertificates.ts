/**
 * Validates the contents of certificate files before they are used: that they parse, belong together, are valid now, and would be
 * accepted in a TLS handshake.
 */
import type { KeyObject, X509Certificate } from "node:crypto"
import { createSecureContext } from "node:tls"

import { Clock, Effect, type FileSystem, Option, Redacted } from "effect"

import { allowsHandshake } from "./certificateFields.ts"
import {
  type CertificateError,
  type CertificateFiles,
  type Content,
  type Contents,
  firstLine,
  readContents
} from "./CertificateFiles.ts"
import {
  type Authorities,
  type Certificates,
  formatTime,
  type Identity,
  notAfterOf,
  type Revocations,
  type Role,
  secureContextOptions
} from "./Certificates.ts"
import * as PeerIdentity from "./PeerIdentity.ts"
import { parseCertificates, parsePrivateKey, parseRevocationLists } from "./pem.ts"

/** Reads the files once and validates them. */
export const readCertificates = (
  files: CertificateFiles,
  role: Role = ""
): Effect.Effect<Certificates, CertificateError, FileSystem.FileSystem> =>
  Effect.flatMap(readContents(files), (contents) => validate(contents, role))

/** Parses and validates the contents of files. */
export const validate = Effect.fnUntraced(function* (
  { ca, crl, identity }: Contents,
  role: Role
): Effect.fn.Return<Certificates, CertificateError> {
  return {
    identity: identity === undefined ? undefined : yield* validateIdentity(identity.cert, identity.key, role),
    ca: ca === undefined ? undefined : yield* validateAuthorities(ca),
    crl: crl === undefined || ca === undefined ? undefined : yield* validateRevocations(crl, ca)
  }
})

const validateIdentity = Effect.fnUntraced(function* (
  cert: Content,
  key: Content,
  role: Role
): Effect.fn.Return<Identity, CertificateError> {
  const { certificates, pem } = yield* parseCertificates(cert)
  const [leaf] = certificates
  const privateKey = yield* parsePrivateKey(key)
  if (!leaf.checkPrivateKey(privateKey)) {
    return yield* key.fail(
      "the private key of the certificate",
      `it does not match the certificate in ${JSON.stringify(cert.path)}`
    )
  }
  const unusable = whyUnusable(leaf, privateKey, role)
  if (Option.isSome(unusable)) return yield* cert.fail(`a certificate for a ${role}`, unusable.value)
  const now = yield* Clock.currentTimeMillis
  for (const certificate of certificates) {
    const invalid = whyNotValid(certificate, now)
    if (Option.isSome(invalid)) return yield* cert.fail("a certificate that is valid now", invalid.value)
  }
  const identity: Identity = {
    cert: pem,
    key: Redacted.make(key.text),
    notAfter: Math.min(...certificates.map(notAfterOf)),
    subject: oneLine(leaf.subject),
    subjectAltNames: PeerIdentity.subjectAltNames(leaf)
  }
  yield* validateContext({ identity }, cert)
  return identity
})

const validateAuthorities = Effect.fnUntraced(function* (
  file: Content
): Effect.fn.Return<Authorities, CertificateError> {
  const { certificates, pem } = yield* parseCertificates(file)
  const now = yield* Clock.currentTimeMillis
  // during a rotation, the file may contain an expired or future authority next to a valid one
  const invalid = certificates.map((certificate) => whyNotValid(certificate, now))
  if (invalid.every(Option.isSome)) {
    return yield* file.fail("a CA certificate that is valid now", invalid.map(({ value }) => value).join(", "))
  }
  const authorities: Authorities = { pem, notAfter: Math.max(...certificates.map(notAfterOf)) }
  yield* validateContext({ ca: authorities }, file)
  return authorities
})

const validateRevocations = Effect.fnUntraced(function* (
  file: Content,
  caFile: Content
): Effect.fn.Return<Revocations, CertificateError> {
  const lists = yield* parseRevocationLists(file)
  const now = yield* Clock.currentTimeMillis
  for (const { nextUpdate, thisUpdate } of lists) {
    const expected = "CRLs that are valid now"
    if (nextUpdate === undefined) return yield* file.fail(expected, "one of them has no nextUpdate")
    if (nextUpdate <= now) return yield* file.fail(expected, `one of them expired on ${formatTime(nextUpdate)}`)
    if (thisUpdate > now) return yield* file.fail(expected, `one of them is not valid before ${formatTime(thisUpdate)}`)
  }
  // OpenSSL requires a list of every authority in a chain, including the root
  for (const authority of (yield* parseCertificates(caFile)).certificates) {
    if (Option.isSome(whyNotValid(authority, now)) || lists.some((list) => list.isSignedBy(authority))) continue
    return yield* file.fail(
      `a CRL of each authority in ${JSON.stringify(caFile.path)}`,
      `there is none of ${oneLine(authority.subject)}`
    )
  }
  const revocations: Revocations = {
    lists: lists.map(({ pem }) => pem),
    notAfter: Math.min(...lists.map(({ nextUpdate = Infinity }) => nextUpdate)),
    revoked: new Set(lists.flatMap(({ revoked }) => revoked))
  }
  yield* validateContext({ crl: revocations }, file)
  return revocations
})

/** Loads the certificates with OpenSSL, which rejects weak keys and signatures. */
const validateContext = (certificates: Certificates, { fail }: Content): Effect.Effect<void, CertificateError> =>
  Effect.try({
    try: () => void createSecureContext(secureContextOptions(certificates)),
    catch: (cause) => fail("a certificate that TLS can use", `OpenSSL rejects it (${firstLine(cause)})`)
  })

/** The extended key usages (RFC 5280, section 4.2.1.12) that the peer requires, by role. */
const usages: { readonly [role: Role]: { readonly oid: string; readonly name: string } } = {
  server: { oid: "1.3.6.1.5.5.7.3.1", name: "serverAuth" },
  client: { oid: "1.3.6.1.5.5.7.3.2", name: "clientAuth" }
}

const anyExtendedKeyUsage = "2.5.29.37.0"

const keyTypes: ReadonlySet<string | undefined> = new Set(["rsa", "rsa-pss", "ec", "ed25519", "ed448"])

/** The curves of TLS 1.3 for signatures (RFC 8446, section 4.2.3), by their names in Node. */
const curves: ReadonlySet<string | undefined> = new Set(["prime256v1", "secp384r1", "secp521r1"])

/** The reason for which a certificate would fail in every handshake. None for a role other than "server" and "client". */
const whyUnusable = (certificate: X509Certificate, key: KeyObject, role: Role): Option.Option<string> => {
  const usage = usages[role]
  if (usage === undefined) return Option.none()
  const { asymmetricKeyDetails, asymmetricKeyType } = key
  if (!keyTypes.has(asymmetricKeyType)) return Option.some(`TLS does not support its key type ${asymmetricKeyType}`)
  if (asymmetricKeyType === "ec" && !curves.has(asymmetricKeyDetails?.namedCurve)) {
    return Option.some(`TLS 1.3 does not support the curve of its key, ${asymmetricKeyDetails?.namedCurve}`)
  }
  // undefined without the extension, which allows every use; Node's types omit that
  const extended = certificate.keyUsage as ReadonlyArray<string> | undefined
  if (extended !== undefined && !extended.includes(usage.oid) && !extended.includes(anyExtendedKeyUsage)) {
    return Option.some(`its extended key usage does not include ${usage.name}`)
  }
  if (!allowsHandshake(certificate)) return Option.some("its key usage does not allow a TLS handshake")
  const names = PeerIdentity.subjectAltNames(certificate)
  const isNamed = role === "server" ? names.some(({ type }) => type === "DNS" || type === "IP") : names.length > 0
  if (isNamed) return Option.none()
  return Option.some(
    role === "server" ? "it has no subjectAltName that is a DNS name or an IP address" : "it has no subjectAltName"
  )
}

const whyNotValid = (certificate: X509Certificate, now: number): Option.Option<string> => {
  const notBefore = Date.parse(certificate.validFrom)
  const notAfter = notAfterOf(certificate)
  const subject = oneLine(certificate.subject) || "it"
  if (now < notBefore) return Option.some(`${subject} is not valid before ${formatTime(notBefore)}`)
  // the validity includes the whole last second (RFC 5280, section 4.1.2.5)
  if (now >= notAfter + 1000) return Option.some(`${subject} expired on ${formatTime(notAfter)}`)
  return Option.none()
}

/** Node separates the parts of a subject by line breaks. */
const oneLine = (subject: string | undefined): string => (subject ?? "").replaceAll("\n", ", ")
