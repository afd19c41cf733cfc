/**
 * Certificates from PEM files, checked, and read again when the files change: a certificate that is renewed is taken up
 * without a restart, and a bad one never takes the place of a good one.
 */
import { constants, createHash, createPrivateKey, type KeyObject, X509Certificate } from "node:crypto"
import { createSecureContext, type SecureContextOptions } from "node:tls"

import {
  Clock,
  Duration,
  Effect,
  FileSystem,
  Metric,
  Option,
  Redacted,
  Schema,
  type Scope,
  type Stream,
  SubscriptionRef
} from "effect"

import { ProjectRoot } from "../config/ProjectRoot.ts"
import * as PeerIdentity from "./PeerIdentity.ts"
import * as RevocationList from "./RevocationList.ts"

/** Where the certificates are; a certificate comes with its key. */
export type CertificateFiles = (
  | { readonly certFile: string; readonly keyFile: string }
  | { readonly certFile?: undefined; readonly keyFile?: undefined }
) & {
  /** The authorities that the other side's certificate has to come from. */
  readonly caFile?: string | undefined
  /** The certificates of those authorities that were revoked: one list for each authority. */
  readonly crlFile?: string | undefined
  /** The environment variables that the paths came from, to be named when they do not work. */
  readonly variables?:
    | {
        readonly certFile: string
        readonly keyFile: string
        readonly caFile: string
        readonly crlFile?: string | undefined
      }
    | undefined
}

/** What a server or a client proves itself with. */
export interface Identity {
  /** The certificate, and those that lead from it to an authority: PEM. */
  readonly cert: string
  /** PEM. */
  readonly key: Redacted.Redacted<string>
  /** When the first certificate of the chain expires, in milliseconds since 1970. */
  readonly notAfter: number
  /** For the log. */
  readonly subject: string
  readonly subjectAltNames: ReadonlyArray<PeerIdentity.SubjectAltName>
}

/** Whom to trust. */
export interface Authorities {
  /** One certificate or more: PEM. */
  readonly pem: string
  /** When the last of them expires, and nobody is trusted any more, in milliseconds since 1970. */
  readonly notAfter: number
}

/** Whom not to trust any more. */
export interface Revocations {
  /** PEM, each list by itself. */
  readonly lists: ReadonlyArray<string>
  /** When the first of them has run out, in milliseconds since 1970: OpenSSL then refuses every certificate of its authority. */
  readonly notAfter: number
  readonly revoked: ReadonlySet<RevocationList.CertificateId>
}

/** What has been read from {@link CertificateFiles}. */
export interface Certificates {
  readonly identity?: Identity | undefined
  readonly ca?: Authorities | undefined
  readonly crl?: Revocations | undefined
}

/** A file is not fit to be used. The message is one line, for an operator. */
export class CertificateError extends Schema.TaggedError<CertificateError>()("CertificateError", {
  message: Schema.String
}) {}

/** The same files, with the paths that `resolve` makes of theirs. */
export const resolveFiles = (files: CertificateFiles, resolve: (path: string) => string): CertificateFiles => ({
  ...(files.certFile === undefined ? {} : { certFile: resolve(files.certFile), keyFile: resolve(files.keyFile) }),
  caFile: files.caFile === undefined ? undefined : resolve(files.caFile),
  crlFile: files.crlFile === undefined ? undefined : resolve(files.crlFile),
  variables: files.variables
})

/**
 * What `tls.createSecureContext` needs, versions and ciphers too: a context that is made anew has none of those that the
 * one before was made with. For TLS 1.2 the ciphers are the ones with forward secrecy and authentication in one (AEAD),
 * which HTTP/2 asks for (RFC 9113, appendix A); with TLS 1.3 there are no others.
 *
 * Sessions are not resumed: whoever resumes one shows no certificate, so that one that has expired or was revoked would do for ever.
 * Without tickets OpenSSL has no way to resume a session here (with TLS 1.3 it still sends some, which lead to nothing).
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

/** A line for the log: whose certificate it is, and until when. */
export const describe = ({ ca, crl, identity }: Certificates): string =>
  [
    ...(identity === undefined
      ? []
      : [
          `certificate ${[identity.subject, PeerIdentity.format(identity.subjectAltNames)].filter(Boolean).join(", ")}` +
            ` is valid until ${date(identity.notAfter)}`
        ]),
    ...(ca === undefined ? [] : [`CA is valid until ${date(ca.notAfter)}`]),
    ...(crl === undefined ? [] : [`${crl.revoked.size} certificates are revoked by a CRL until ${date(crl.notAfter)}`])
  ].join("; ")

/** What a certificate is used for: "server" or "client". Other words are for tests, and take any certificate. */
export type Role = string

/** Reads the files once, and checks them. */
export const read = Effect.fnUntraced(function* (
  files: CertificateFiles,
  role: Role = ""
): Effect.fn.Return<Certificates, CertificateError, FileSystem.FileSystem> {
  return yield* check(yield* readContents(files), role)
})

/** Certificates that are read again when their files change. */
export interface Watched {
  /** The last that were good. */
  readonly current: () => Certificates
  /** Those, and then each that takes their place. */
  readonly changes: Stream.Stream<Certificates>
}

/** How to watch. */
export interface WatchOptions {
  /** What the certificates are for, such as "server" or "client": an attribute of the metrics, and a word in the log. */
  readonly role: Role
  /** How often the files are read; a second unless it is given. A change is taken up after one or two of these. */
  readonly interval?: Duration.Input | undefined
}

/**
 * Reads the files, which must be good, and then again and again as long as the scope is open. That is how every change is
 * seen on every file system, also the symlink further up that Kubernetes swaps, for which file events do not come.
 *
 * A change counts when it has been read twice, since whoever replaces a certificate and its key writes one after the
 * other. If it is bad then, one line of the log says so, and the last good certificates stay.
 */
export const watch = Effect.fnUntraced(function* (
  files: CertificateFiles,
  options: WatchOptions
): Effect.fn.Return<Watched, CertificateError, FileSystem.FileSystem | Scope.Scope> {
  const metrics = metricsOf(options.role)
  const first = yield* readContents(files)
  const current = yield* SubscriptionRef.make(yield* check(first, options.role))
  yield* metrics.onRead(SubscriptionRef.getUnsafe(current))

  /** What is in use, what was refused last, and what the last poll found. */
  let used = fingerprint(first)
  let refused: string | undefined
  let previous = used

  const poll = Effect.gen(function* () {
    const contents = yield* Effect.result(readContents(files))
    const found = contents._tag === "Success" ? fingerprint(contents.success) : contents.failure.message
    const isSettled = found === previous
    previous = found
    if (found === used) {
      refused = undefined
    } else if (isSettled) {
      // what was refused is checked again, quietly: a certificate that is not valid yet will be
      const checked = yield* Effect.result(
        Effect.flatMap(Effect.fromResult(contents), (contents) => check(contents, options.role))
      )
      if (checked._tag === "Success") {
        used = found
        refused = undefined
        yield* metrics.onReload(checked.success)
        yield* Effect.logInfo(`TLS of the ${options.role} is reloaded: ${describe(checked.success)}`)
        yield* SubscriptionRef.set(current, checked.success)
      } else if (found !== refused) {
        refused = found
        yield* metrics.onFailure
        yield* Effect.logWarning(
          `TLS of the ${options.role} is not reloaded, what was good stays in use: ${checked.failure.message}`
        )
      }
    }
    yield* metrics.onPoll(SubscriptionRef.getUnsafe(current))
    yield* warnOfCrl(SubscriptionRef.getUnsafe(current), options.role)
  })
  const warnOfCrl = yield* makeCrlWarning
  yield* Effect.sleep(options.interval ?? Duration.seconds(1)).pipe(
    Effect.andThen(poll),
    Effect.forever,
    Effect.forkScoped
  )
  return {
    current: () => SubscriptionRef.getUnsafe(current),
    changes: SubscriptionRef.changes(current)
  }
})

/** A day in milliseconds: how long before a CRL runs out a line says so. */
const crlNotice = 24 * 60 * 60 * 1000

/** Says once of each CRL that it runs out soon, and once that it has. */
const makeCrlWarning = Effect.sync(() => {
  const told = { soon: 0, over: 0 }
  return Effect.fnUntraced(function* ({ crl }: Certificates, role: Role) {
    if (crl === undefined) return
    const now = yield* Clock.currentTimeMillis
    if (now >= crl.notAfter && told.over !== crl.notAfter) {
      told.over = told.soon = crl.notAfter
      yield* Effect.logWarning(
        `The CRL of the ${role} ran out on ${date(crl.notAfter)}: no certificate of its authority is accepted`
      )
    } else if (now >= crl.notAfter - crlNotice && told.soon !== crl.notAfter) {
      told.soon = crl.notAfter
      yield* Effect.logWarning(
        `The CRL of the ${role} runs out on ${date(crl.notAfter)}: then no certificate of its authority is accepted`
      )
    }
  })
})

/** As {@link watch}, with relative paths taken from the project's root; the log says what has been read. */
export const watchResolved = Effect.fnUntraced(function* (files: CertificateFiles, options: WatchOptions) {
  const { resolve } = yield* ProjectRoot
  const watched = yield* watch(resolveFiles(files, resolve), options)
  yield* Effect.logInfo(`TLS of the ${options.role}: ${describe(watched.current())}`)
  return watched
})

const reloads = Metric.counter("tls_certificate_reloads_total", {
  description: "Changes of the certificate files that were taken up",
  incremental: true
})

const reloadFailures = Metric.counter("tls_certificate_reload_failures_total", {
  description: "Changes of the certificate files that were refused",
  incremental: true
})

const expiry = Metric.gauge("tls_certificate_expiry_timestamp_seconds", {
  description: "When the certificate in use, or the last of the CA file, expires, in seconds since 1970"
})

const timeToExpiry = Metric.gauge("tls_certificate_time_to_expiry_seconds", {
  description: "How long the certificate in use, or the last of the CA file, is still valid"
})

const crlExpiry = Metric.gauge("tls_crl_expiry_timestamp_seconds", {
  description: "When the first of the certificate revocation lists in use runs out, in seconds since 1970"
})

const crlTimeToExpiry = Metric.gauge("tls_crl_time_to_expiry_seconds", {
  description: "How long the certificate revocation lists in use are still valid"
})

const metricsOf = (role: Role) => {
  const each = (
    { ca, identity }: Certificates,
    update: (notAfter: number, attributes: { readonly role: string; readonly file: string }) => Effect.Effect<void>
  ) =>
    Effect.all(
      [
        identity === undefined ? Effect.void : update(identity.notAfter, { role, file: "certificate" }),
        ca === undefined ? Effect.void : update(ca.notAfter, { role, file: "ca" })
      ],
      { discard: true }
    )
  const ofCrl = ({ crl }: Certificates, gauge: typeof crlExpiry, from: number) =>
    crl === undefined
      ? Effect.void
      : Metric.update(Metric.withAttributes(gauge, { role }), (crl.notAfter - from) / 1000)
  const onPoll = (certificates: Certificates) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.andThen(
        each(certificates, (notAfter, attributes) =>
          Metric.update(Metric.withAttributes(timeToExpiry, attributes), (notAfter - now) / 1000)
        ),
        ofCrl(certificates, crlTimeToExpiry, now)
      )
    )
  const onTaken = (certificates: Certificates, count: number) =>
    Effect.all(
      [
        Metric.update(Metric.withAttributes(reloads, { role }), count),
        each(certificates, (notAfter, attributes) =>
          Metric.update(Metric.withAttributes(expiry, attributes), notAfter / 1000)
        ),
        ofCrl(certificates, crlExpiry, 0),
        onPoll(certificates)
      ],
      { discard: true }
    )
  const onFailure = (count: number) => Metric.update(Metric.withAttributes(reloadFailures, { role }), count)
  return {
    // counters are there from the start, so that their first increase is seen
    onRead: (certificates: Certificates) => Effect.andThen(onFailure(0), onTaken(certificates, 0)),
    onReload: (certificates: Certificates) => onTaken(certificates, 1),
    onFailure: onFailure(1),
    onPoll
  }
}

/** What stands in a file, and how to say what is wrong with it. */
interface Content {
  readonly path: string
  readonly text: string
  readonly fail: (expected: string, but: string) => CertificateError
}

interface Contents {
  readonly identity: { readonly cert: Content; readonly key: Content } | undefined
  readonly ca: Content | undefined
  readonly crl: Content | undefined
}

/** Changes when a file does; of a key nothing can be told from it. */
const fingerprint = ({ ca, crl, identity }: Contents): string =>
  createHash("sha256")
    .update(JSON.stringify([identity?.cert.text, identity?.key.text, ca?.text, crl?.text]))
    .digest("hex")

const readContents = Effect.fnUntraced(function* (
  files: CertificateFiles
): Effect.fn.Return<Contents, CertificateError, FileSystem.FileSystem> {
  const { caFile, certFile, crlFile, keyFile, variables } = files
  return {
    identity:
      certFile === undefined
        ? undefined
        : {
            cert: yield* readContent(variables?.certFile ?? "certFile", certFile),
            key: yield* readContent(variables?.keyFile ?? "keyFile", keyFile)
          },
    ca: caFile === undefined ? undefined : yield* readContent(variables?.caFile ?? "caFile", caFile),
    crl: crlFile === undefined ? undefined : yield* readContent(variables?.crlFile ?? "crlFile", crlFile)
  }
})

const unreadable: { readonly [tag: string]: string } = {
  NotFound: "there is no such file",
  PermissionDenied: "this user may not read it",
  BadResource: "it is a folder, or something else that is no file"
}

/** How large a PEM file may be, in bytes: that of all authorities which browsers trust has 220 kB. */
const maxFileSize = 1024 * 1024

/** How long a file may take to be read: a server of files that hangs must not end the reload for ever. */
const readTimeout = Duration.seconds(10)

/** Reads a regular file, whatever its path turns into: a FIFO has no end, and nor has /dev/zero. */
const readRegularFile = Effect.fnUntraced(function* (path: string, fail: Content["fail"]) {
  const fs = yield* FileSystem.FileSystem
  // before it is opened, since to open a FIFO waits for somebody who writes
  const { size, type } = yield* fs.stat(path)
  if (type !== "File") return yield* fail("a PEM file", unreadable["BadResource"]!)
  if (size > BigInt(maxFileSize)) return yield* fail(`a PEM file of at most ${maxFileSize} bytes`, `it has ${size}`)
  return yield* fs.readFileString(path)
})

const readContent = Effect.fnUntraced(function* (
  variable: string,
  path: string
): Effect.fn.Return<Content, CertificateError, FileSystem.FileSystem> {
  const fail = (expected: string, but: string) =>
    new CertificateError({ message: `${variable}=${JSON.stringify(path)}: expected ${expected}, but ${but}` })
  const text = yield* readRegularFile(path, fail).pipe(
    Effect.catchTag("PlatformError", ({ reason }) =>
      Effect.fail(fail("a PEM file", unreadable[reason._tag] ?? `it cannot be read (${firstLine(reason)})`))
    ),
    Effect.timeoutOrElse({
      duration: readTimeout,
      orElse: () => Effect.fail(fail("a PEM file", `reading it took longer than ${Duration.format(readTimeout)}`))
    })
  )
  return { path, text, fail }
})

const check = Effect.fnUntraced(function* (
  { ca, crl, identity }: Contents,
  role: Role
): Effect.fn.Return<Certificates, CertificateError> {
  return {
    identity: identity === undefined ? undefined : yield* checkIdentity(identity.cert, identity.key, role),
    ca: ca === undefined ? undefined : yield* checkAuthorities(ca),
    crl: crl === undefined || ca === undefined ? undefined : yield* checkRevocations(crl, ca)
  }
})

const checkIdentity = Effect.fnUntraced(function* (
  cert: Content,
  key: Content,
  role: Role
): Effect.fn.Return<Identity, CertificateError> {
  const { certificates, pem } = yield* parseCertificates(cert)
  const [leaf] = certificates
  const privateKey = yield* parseKey(key)
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
    const wrong = whyNotValid(certificate, now)
    if (Option.isSome(wrong)) return yield* cert.fail("a certificate that is valid now", wrong.value)
  }
  const identity: Identity = {
    cert: pem,
    key: Redacted.make(key.text),
    notAfter: Math.min(...certificates.map(notAfterOf)),
    subject: oneLine(leaf.subject),
    subjectAltNames: PeerIdentity.subjectAltNames(leaf)
  }
  yield* checkContext({ identity }, cert)
  return identity
})

const checkAuthorities = Effect.fnUntraced(function* (file: Content): Effect.fn.Return<Authorities, CertificateError> {
  const { certificates, pem } = yield* parseCertificates(file)
  const now = yield* Clock.currentTimeMillis
  // an authority that has expired may stay beside its successor, as one that is yet to come may
  const wrong = certificates.map((certificate) => whyNotValid(certificate, now))
  if (wrong.every(Option.isSome)) {
    return yield* file.fail("a CA certificate that is valid now", wrong.map(({ value }) => value).join(", "))
  }
  const authorities: Authorities = { pem, notAfter: Math.max(...certificates.map(notAfterOf)) }
  yield* checkContext({ ca: authorities }, file)
  return authorities
})

const usages: { readonly [role: Role]: { readonly oid: string; readonly name: string } } = {
  server: { oid: "1.3.6.1.5.5.7.3.1", name: "serverAuth" },
  client: { oid: "1.3.6.1.5.5.7.3.2", name: "clientAuth" }
}

/** The extended key usage that allows all of them (RFC 5280, section 4.2.1.12). */
const anyUsage = "2.5.29.37.0"

const keyTypes: ReadonlySet<string | undefined> = new Set(["rsa", "rsa-pss", "ec", "ed25519", "ed448"])

/** The curves that TLS 1.3 has for certificates (RFC 8446, section 4.2.3), as Node calls them. */
const curves: ReadonlySet<string | undefined> = new Set(["prime256v1", "secp384r1", "secp521r1"])

/** Why the other side of a handshake would refuse a certificate, or could not use it. */
const whyUnusable = (certificate: X509Certificate, key: KeyObject, role: Role): Option.Option<string> => {
  const usage = usages[role]
  if (usage === undefined) return Option.none()
  const { asymmetricKeyDetails, asymmetricKeyType } = key
  if (!keyTypes.has(asymmetricKeyType)) return Option.some(`TLS cannot sign with its key, of ${asymmetricKeyType}`)
  if (asymmetricKeyType === "ec" && !curves.has(asymmetricKeyDetails?.namedCurve)) {
    return Option.some(`TLS 1.3 has no signatures with its key, on the curve ${asymmetricKeyDetails?.namedCurve}`)
  }
  // undefined if it has none, whatever Node's types say: any use
  const extended = certificate.keyUsage as ReadonlyArray<string> | undefined
  if (extended !== undefined && !extended.includes(usage.oid) && !extended.includes(anyUsage)) {
    return Option.some(`its extended key usage does not include ${usage.name}`)
  }
  if (!RevocationList.isForHandshakes(certificate)) return Option.some("its key usage does not allow a TLS handshake")
  const names = PeerIdentity.subjectAltNames(certificate)
  const isNamed = role === "server" ? names.some(({ type }) => type === "DNS" || type === "IP") : names.length > 0
  if (isNamed) return Option.none()
  return Option.some(
    role === "server" ? "it has no subjectAltName that is a DNS name or an address" : "it has no subjectAltName"
  )
}

const checkRevocations = Effect.fnUntraced(function* (
  file: Content,
  caFile: Content
): Effect.fn.Return<Revocations, CertificateError> {
  const lists = yield* parseRevocationLists(file)
  const now = yield* Clock.currentTimeMillis
  for (const { nextUpdate, thisUpdate } of lists) {
    const expected = "CRLs that are valid now"
    if (nextUpdate === undefined) return yield* file.fail(expected, "one of them does not say when the next one comes")
    if (nextUpdate <= now) return yield* file.fail(expected, `one of them ran out on ${date(nextUpdate)}`)
    if (thisUpdate > now) return yield* file.fail(expected, `one of them is not valid before ${date(thisUpdate)}`)
  }
  // OpenSSL asks for the list of every authority in a chain, its root's too
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
  yield* checkContext({ crl: revocations }, file)
  return revocations
})

/** OpenSSL has the last word: it refuses weak keys and signatures too. */
const checkContext = (certificates: Certificates, { fail }: Content): Effect.Effect<void, CertificateError> =>
  Effect.try({
    try: () => void createSecureContext(secureContextOptions(certificates)),
    catch: (cause) => fail("a certificate that TLS can use", `OpenSSL refuses it (${firstLine(cause)})`)
  })

const begin = /-----BEGIN (?:X509 )?CERTIFICATE-----/g
const block = /-----BEGIN ((?:X509 )?CERTIFICATE)-----[^-]+-----END \1-----/g

/** The certificates of a file, at least one, and nothing but them as PEM. */
const parseCertificates = Effect.fnUntraced(function* ({
  fail,
  text
}: Content): Effect.fn.Return<
  { readonly certificates: readonly [X509Certificate, ...ReadonlyArray<X509Certificate>]; readonly pem: string },
  CertificateError
> {
  const blocks = text.match(block) ?? []
  const certificates: Array<X509Certificate> = []
  for (const pem of blocks) {
    certificates.push(
      yield* Effect.try({
        try: () => new X509Certificate(pem),
        catch: (cause) =>
          fail(
            "a PEM file with certificates",
            `certificate ${certificates.length + 1} in it does not parse (${firstLine(cause)})`
          )
      })
    )
  }
  const [first, ...others] = certificates
  // one without an end would be left out unseen
  if (blocks.length !== (text.match(begin) ?? []).length) {
    return yield* fail(
      "a PEM file with certificates",
      `certificate ${blocks.length + 1} in it does not parse (it is cut off)`
    )
  }
  if (first === undefined) return yield* fail("a PEM file with certificates", "there are none in it")
  return { certificates: [first, ...others], pem: `${blocks.join("\n")}\n` }
})

const crlBegin = /-----BEGIN X509 CRL-----/g
const crlBlock = /-----BEGIN X509 CRL-----[^-]+-----END X509 CRL-----/g

/** The revocation lists of a file, at least one. */
const parseRevocationLists = Effect.fnUntraced(function* ({
  fail,
  text
}: Content): Effect.fn.Return<ReadonlyArray<RevocationList.RevocationList>, CertificateError> {
  const expected = "a PEM file with CRLs"
  const blocks = text.match(crlBlock) ?? []
  if (blocks.length !== (text.match(crlBegin) ?? []).length) {
    return yield* fail(expected, `CRL ${blocks.length + 1} in it does not parse (it is cut off)`)
  }
  if (blocks.length === 0) return yield* fail(expected, "there are none in it")
  return yield* Effect.forEach(blocks, (pem, index) =>
    Effect.try({
      try: () => RevocationList.parse(`${pem}\n`),
      catch: (cause) => fail(expected, `CRL ${index + 1} in it does not parse (${firstLine(cause)})`)
    })
  )
})

const parseKey = ({ fail, text }: Content): Effect.Effect<KeyObject, CertificateError> =>
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

/** When a certificate expires, in milliseconds since 1970. Long ago if it has no date that can be read. */
export const notAfterOf = (certificate: X509Certificate): number => Date.parse(certificate.validTo) || 0

const whyNotValid = (certificate: X509Certificate, now: number): Option.Option<string> => {
  const notBefore = Date.parse(certificate.validFrom)
  const notAfter = notAfterOf(certificate)
  const subject = oneLine(certificate.subject) || "it"
  if (now < notBefore) return Option.some(`${subject} is not valid before ${date(notBefore)}`)
  // the whole of the last second counts (RFC 5280, section 4.1.2.5)
  if (now >= notAfter + 1000) return Option.some(`${subject} expired on ${date(notAfter)}`)
  return Option.none()
}

const date = (millis: number): string => new Date(millis).toISOString().replace(".000", "")

/** Node writes each part of a subject on a line of its own. */
const oneLine = (subject: string | undefined): string => (subject ?? "").replaceAll("\n", ", ")

const firstLine = (cause: unknown): string =>
  (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0]!
