/**
 * Makes CAs and certificates for development and tests. The keys are EC P-256 and unencrypted.
 */
import { createPrivateKey, createPublicKey, KeyObject, webcrypto } from "node:crypto"

// has to be loaded before @peculiar/x509
import "reflect-metadata"
import * as x509 from "@peculiar/x509"

x509.cryptoProvider.set(webcrypto as never)

/** A certificate with its key, both PEM. */
export interface Issued {
  readonly cert: string
  readonly key: string
}

/** The validity of a certificate. */
export interface Validity {
  /** An hour ago by default, because clocks of other machines may be behind. */
  readonly notBefore?: Date
  /** In 90 days by default, or in 10 years for a CA. */
  readonly notAfter?: Date
}

/** A CA with its key. */
export interface Authority extends Issued {
  /** Its chain without the root, which follows each certificate that it issues. */
  readonly chain: string
}

/** The subject and the usage of a certificate. */
export interface IssueOptions extends Validity {
  /** The subjectAltNames, such as "DNS:localhost", "IP:::1" or "URI:spiffe://example/service". */
  readonly names: ReadonlyArray<string>
  readonly usage: "client" | "server"
  /** The name in the subject, for people; the first of the names by default. */
  readonly commonName?: string
  /** The key of an earlier certificate (PEM) to reuse. */
  readonly key?: string
  /** The size of an RSA key in bits, instead of an EC key, for tests with a weak key. */
  readonly rsaBits?: number
}

export const day = 24 * 60 * 60 * 1000

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" }

const pem = (key: webcrypto.CryptoKey): string =>
  KeyObject.from(key).export({ type: "pkcs8", format: "pem" }).toString()

const validity = ({ notAfter, notBefore }: Validity, days: number) => ({
  notBefore: notBefore ?? new Date(Date.now() - 60 * 60 * 1000),
  notAfter: notAfter ?? new Date(Date.now() + days * day)
})

/** Makes a CA: an intermediate one signed by `parent`, or else a root. */
export const makeAuthority = async (
  options: Validity & { readonly commonName?: string; readonly parent?: Authority } = {}
): Promise<Authority> => {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])
  const { parent } = options
  const issued = await sign(keys, parent, `CN=${options.commonName ?? "Development CA"}`, {
    ...validity(options, 3650),
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true)
    ]
  })
  return { ...issued, chain: parent === undefined ? "" : issued.cert + parent.chain }
}

/** Issues a certificate, followed by the intermediate CAs. */
export const issue = async (authority: Authority, options: IssueOptions): Promise<Issued> => {
  const keys = options.key === undefined ? await makeKeys(options.rsaBits) : await importKeys(options.key)
  const names = options.names.map(toGeneralName)
  const { ExtendedKeyUsage, KeyUsageFlags } = x509
  const issued = await sign(keys, authority, `CN=${options.commonName ?? names[0]?.value ?? "nobody"}`, {
    ...validity(options, 90),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        options.usage === "server" ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth
      ]),
      new x509.SubjectAlternativeNameExtension(names)
    ]
  })
  return { ...issued, cert: issued.cert + authority.chain }
}

/** Issues a certificate revocation list (PEM) with these certificates. */
export const revoke = async (
  authority: Issued,
  certificates: ReadonlyArray<Issued>,
  options: { readonly thisUpdate?: Date; readonly nextUpdate?: Date } = {}
): Promise<string> => {
  const list = await x509.X509CrlGenerator.create({
    issuer: new x509.X509Certificate(authority.cert).subject,
    thisUpdate: options.thisUpdate ?? new Date(Date.now() - 60 * 60 * 1000),
    nextUpdate: options.nextUpdate ?? new Date(Date.now() + 7 * day),
    entries: certificates.map(({ cert }) => ({ serialNumber: new x509.X509Certificate(cert).serialNumber })),
    signingAlgorithm: algorithm,
    signingKey: (await importKeys(authority.key)).privateKey
  })
  // in the form that OpenSSL expects
  return `${list
    .toString("pem")
    .trim()
    .replaceAll(/(BEGIN|END) CRL/g, "$1 X509 CRL")}\n`
}

const makeKeys = (rsaBits: number | undefined): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey(
    rsaBits === undefined
      ? algorithm
      : {
          name: "RSASSA-PKCS1-v1_5",
          hash: "SHA-256",
          modulusLength: rsaBits,
          publicExponent: new Uint8Array([1, 0, 1])
        },
    true,
    ["sign", "verify"]
  )

const sign = async (
  keys: webcrypto.CryptoKeyPair,
  signer: Issued | undefined,
  subject: string,
  {
    extensions,
    ...options
  }: Required<Validity> & {
    readonly extensions: ReadonlyArray<x509.Extension>
  }
): Promise<Issued> => {
  const issuer = signer === undefined ? undefined : new x509.X509Certificate(signer.cert)
  const certificate = await x509.X509CertificateGenerator.create({
    subject,
    issuer: issuer?.subject ?? subject,
    ...options,
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: signer === undefined ? keys.privateKey : (await importKeys(signer.key)).privateKey,
    extensions: [
      ...extensions,
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer?.publicKey ?? keys.publicKey)
    ]
  })
  return { cert: `${certificate.toString("pem")}\n`, key: pem(keys.privateKey) }
}

const importKeys = async (key: string): Promise<webcrypto.CryptoKeyPair> => ({
  privateKey: await webcrypto.subtle.importKey(
    "pkcs8",
    createPrivateKey(key).export({ type: "pkcs8", format: "der" }),
    algorithm,
    true,
    ["sign"]
  ),
  publicKey: await webcrypto.subtle.importKey(
    "spki",
    createPublicKey(key).export({ type: "spki", format: "der" }),
    algorithm,
    true,
    ["verify"]
  )
})

const toGeneralName = (name: string): { readonly type: "dns" | "ip" | "url"; readonly value: string } => {
  const [, type, value] = /^(DNS|IP|URI):(.+)$/s.exec(name) ?? []
  if (value === undefined) throw new Error(`${name}: expected a name with its type, such as DNS:localhost`)
  return { type: type === "DNS" ? "dns" : type === "IP" ? "ip" : "url", value }
}
