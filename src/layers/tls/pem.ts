/**
 * Parses PEM files (RFC 7468): certificates, private keys and certificate revocation lists.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto"

import { Effect } from "effect"

import { type CertificateError, type Content, firstLine } from "./CertificateFiles.ts"
import * as RevocationList from "./RevocationList.ts"

const certificateBegin = /-----BEGIN (?:X509 )?CERTIFICATE-----/g
const certificateBlock = /-----BEGIN ((?:X509 )?CERTIFICATE)-----[^-]+-----END \1-----/g

/** The certificates of a file, at least one, and their PEM blocks without the text around them. */
export const parseCertificates = Effect.fnUntraced(function* (
  file: Content
): Effect.fn.Return<
  { readonly certificates: readonly [X509Certificate, ...ReadonlyArray<X509Certificate>]; readonly pem: string },
  CertificateError
> {
  const { blocks, parsed } = yield* parseBlocks(file, {
    begin: certificateBegin,
    block: certificateBlock,
    expected: "a PEM file with certificates",
    name: "certificate",
    parse: (pem) => new X509Certificate(pem)
  })
  return { certificates: parsed, pem: `${blocks.join("\n")}\n` }
})

const crlBegin = /-----BEGIN X509 CRL-----/g
const crlBlock = /-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/g

/** The revocation lists of a file, at least one. */
export const parseRevocationLists = (
  file: Content
): Effect.Effect<ReadonlyArray<RevocationList.RevocationList>, CertificateError> =>
  Effect.map(
    parseBlocks(file, {
      begin: crlBegin,
      block: crlBlock,
      expected: "a PEM file with CRLs",
      name: "CRL",
      parse: (pem) => RevocationList.parse(`${pem}\n`)
    }),
    ({ parsed }) => parsed
  )

interface BlockType<A> {
  readonly begin: RegExp
  readonly block: RegExp
  readonly expected: string
  readonly name: string
  /** Throws for a block that does not parse. */
  readonly parse: (pem: string) => A
}

const parseBlocks = Effect.fnUntraced(function* <A>(
  { fail, text }: Content,
  { begin, block, expected, name, parse }: BlockType<A>
): Effect.fn.Return<
  { readonly blocks: ReadonlyArray<string>; readonly parsed: readonly [A, ...ReadonlyArray<A>] },
  CertificateError
> {
  const blocks = text.match(block) ?? []
  const failAt = (index: number, reason: string) =>
    fail(expected, `${name} ${index + 1} in it does not parse (${reason})`)
  const [first, ...others] = yield* Effect.forEach(blocks, (pem, index) =>
    Effect.try({ try: () => parse(pem), catch: (cause) => failAt(index, firstLine(cause)) })
  )
  // a block without an end does not match, and must not be ignored
  if (blocks.length !== (text.match(begin) ?? []).length) return yield* failAt(blocks.length, "it is truncated")
  if (first === undefined) return yield* fail(expected, `the file contains no ${name}`)
  return { blocks, parsed: [first, ...others] }
})

/** The private key of a file, in any format that OpenSSL reads. */
export const parsePrivateKey = ({ fail, text }: Content): Effect.Effect<KeyObject, CertificateError> =>
  Effect.try({
    try: () => createPrivateKey(text),
    catch: (cause) =>
      fail(
        "a PEM file with the private key of the certificate, without a passphrase",
        /BEGIN ENCRYPTED |^Proc-Type: .*ENCRYPTED/m.test(text)
          ? "it has a passphrase"
          : `it does not parse (${firstLine(cause)})`
      )
  })
