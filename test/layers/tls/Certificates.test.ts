import { execFile } from "node:child_process"
import { createPrivateKey, generateKeyPairSync, type KeyObject, webcrypto, X509Certificate } from "node:crypto"
import { createSecureContext } from "node:tls"

// wanted by @peculiar/x509 before itself
import "reflect-metadata"
import { NodeFileSystem } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as x509 from "@peculiar/x509"
import { Effect, Exit, FileSystem, Layer, Logger, Metric, PlatformError, Redacted, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"

import {
  type Authority,
  day,
  issue,
  type Issued,
  type IssueOptions,
  makeAuthority,
  revoke
} from "../../../scripts/certificates.ts"
import { type CertificateFiles, resolveFiles } from "../../../src/layers/tls/CertificateFiles.ts"
import * as Certificates from "../../../src/layers/tls/Certificates.ts"
import * as CertificateWatcher from "../../../src/layers/tls/CertificateWatcher.ts"
import * as RevocationList from "../../../src/layers/tls/RevocationList.ts"
import { readCertificates } from "../../../src/layers/tls/validateCertificates.ts"

const now = Date.now()
const daysFromNow = (days: number) => new Date(now + days * day)
/** Certificates keep whole seconds. */
const seconds = (time: Date) => Math.floor(time.getTime() / 1000)

const variables = { certFile: "A_TLS_CERT_FILE", keyFile: "A_TLS_KEY_FILE", caFile: "A_TLS_CLIENT_CA_FILE" }

const authorities = Effect.promise(() => makeAuthority())
const issued = (authority: Authority, options: Partial<IssueOptions> = {}) =>
  Effect.promise(() => issue(authority, { names: ["DNS:localhost"], usage: "server", ...options }))

/** What a file system without files says of one. */
const regularFile = { type: "File", size: 1000n } as FileSystem.File.Info

/** A folder with a certificate, its key and a CA. */
const folderWith = Effect.fnUntraced(function* (
  content: { readonly cert?: string; readonly key?: string; readonly ca?: string } = {}
) {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* fs.makeTempDirectoryScoped()
  const authority = yield* authorities
  const identity = yield* issued(authority)
  const files = { certFile: `${folder}/tls.crt`, keyFile: `${folder}/tls.key`, caFile: `${folder}/ca.crt`, variables }
  yield* fs.writeFileString(files.certFile, content.cert ?? identity.cert)
  yield* fs.writeFileString(files.keyFile, content.key ?? identity.key)
  yield* fs.writeFileString(files.caFile, content.ca ?? authority.cert)
  return { fs, folder, authority, identity, files }
})

describe("certificates that are read", () => {
  it.live("are what a TLS context needs", () =>
    Effect.gen(function* () {
      const authority = yield* authorities
      const { cert, key } = yield* issued(authority, {
        names: ["DNS:localhost", "IP:127.0.0.1"],
        notAfter: daysFromNow(7)
      })
      const { files } = yield* folderWith({ cert, key, ca: authority.cert })
      const certificates = yield* readCertificates(files)
      assert.strictEqual(certificates.identity!.subject, "CN=localhost")
      assert.deepStrictEqual(certificates.identity!.subjectAltNames, [
        { type: "DNS", value: "localhost" },
        { type: "IP", value: "127.0.0.1" }
      ])
      assert.strictEqual(certificates.identity!.notAfter, seconds(daysFromNow(7)) * 1000)
      assert.strictEqual(String(certificates.identity!.key), "<redacted>")

      const options = Certificates.secureContextOptions(certificates)
      assert.strictEqual(options.key, key)
      assert.strictEqual(options.minVersion, "TLSv1.2")
      createSecureContext(options)
      const until = (time: Date) => `${new Date(seconds(time) * 1000).toISOString().slice(0, 19)}Z`
      assert.include(
        Certificates.describe(certificates),
        `certificate CN=localhost, DNS:localhost, IP:127.0.0.1 is valid until ${until(daysFromNow(7))}; CA is valid until 20`
      )
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.live("may be a certificate or a CA alone, or neither", () =>
    Effect.gen(function* () {
      const { authority, files } = yield* folderWith()
      const { caFile, certFile, keyFile } = files
      const identity = yield* readCertificates({ certFile, keyFile })
      assert.isDefined(identity.identity)
      assert.isUndefined(identity.ca)
      const ca = yield* readCertificates({ caFile })
      assert.isUndefined(ca.identity)
      assert.strictEqual(ca.ca?.pem, authority.cert)
      assert.deepStrictEqual(yield* readCertificates({}), { identity: undefined, ca: undefined, crl: undefined })
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.live("may be a chain, which is good as long as its first is", () =>
    Effect.gen(function* () {
      const root = yield* authorities
      const authority = yield* Effect.promise(() =>
        makeAuthority({ parent: root, commonName: "Intermediate", notAfter: daysFromNow(2) })
      )
      const { cert, key } = yield* issued(authority)
      const { files } = yield* folderWith({ cert: `text before\n${cert.replaceAll("\n", "\r\n")}text after`, key })
      const { identity } = yield* readCertificates(files)
      assert.strictEqual(identity!.notAfter, seconds(daysFromNow(2)) * 1000)
      assert.strictEqual(identity!.cert.match(/BEGIN/g)?.length, 2)
      assert.notInclude(identity!.cert, "text")
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.live("may be for any use, and have a key of another type", () =>
    Effect.gen(function* () {
      const { files, fs } = yield* folderWith()
      for (const keys of [generateKeyPairSync("ed25519"), generateKeyPairSync("ec", { namedCurve: "secp384r1" })]) {
        yield* writeIdentity({ files, fs }, yield* certificateOf(keys))
        assert.strictEqual((yield* readCertificates(files, "server")).identity?.subject, "CN=localhost")
      }
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.live("may have a CA that has expired, beside one that has not", () =>
    Effect.gen(function* () {
      const old = yield* Effect.promise(() => makeAuthority({ notBefore: daysFromNow(-9), notAfter: daysFromNow(-1) }))
      const next = yield* Effect.promise(() => makeAuthority({ notAfter: daysFromNow(5) }))
      const { files } = yield* folderWith({ ca: old.cert + next.cert })
      const { ca } = yield* readCertificates(files)
      assert.strictEqual(ca!.pem.match(/BEGIN/g)?.length, 2)
      assert.strictEqual(ca!.notAfter, seconds(daysFromNow(5)) * 1000)
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.live("may have a key of an older form", () =>
    Effect.gen(function* () {
      const { files, fs, identity } = yield* folderWith()
      const sec1 = createPrivateKey(identity.key).export({ type: "sec1", format: "pem" }).toString()
      // as `openssl ecparam -genkey` writes it
      const parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
      yield* fs.writeFileString(files.keyFile, parameters + sec1)
      const certificates = yield* readCertificates(files)
      assert.strictEqual(Redacted.value(certificates.identity!.key), parameters + sec1)
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it("have paths that start where they are told to", () => {
    const resolve = (path: string) => `/root/${path}`
    assert.deepStrictEqual(resolveFiles({ certFile: "c", keyFile: "k", variables }, resolve), {
      certFile: "/root/c",
      keyFile: "/root/k",
      caFile: undefined,
      crlFile: undefined,
      variables
    })
    assert.deepStrictEqual(resolveFiles({ caFile: "ca", crlFile: "crl" }, resolve), {
      caFile: "/root/ca",
      crlFile: "/root/crl",
      variables: undefined
    })
  })
})

type Keys = { readonly publicKey: KeyObject; readonly privateKey: KeyObject }

/** A certificate of a key of any type, for any use unless others are given. */
const certificateOf = (keys: Keys, usages: ReadonlyArray<string> = ["2.5.29.37.0"]) =>
  Effect.promise(async (): Promise<Issued> => {
    const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" }
    const signer = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])
    const certificate = await x509.X509CertificateGenerator.create({
      subject: "CN=localhost",
      issuer: "CN=Development CA",
      notBefore: daysFromNow(-1),
      notAfter: daysFromNow(1),
      publicKey: new x509.PublicKey(keys.publicKey.export({ type: "spki", format: "der" })),
      signingKey: signer.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new x509.ExtendedKeyUsageExtension([...usages]),
        new x509.SubjectAlternativeNameExtension([{ type: "dns", value: "localhost" }])
      ]
    })
    const key = keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString()
    return { cert: `${certificate.toString("pem")}\n`, key }
  })

describe("a file that cannot be used is refused in one line", () => {
  type Folder = Effect.Success<ReturnType<typeof folderWith>>

  /** What is done to a good folder, and what is then said, with the paths. */
  const cases: ReadonlyArray<
    readonly [
      what: string,
      spoil: (folder: Folder) => Effect.Effect<unknown, PlatformError.PlatformError>,
      message: (files: Folder["files"], folder: Folder) => string | RegExp
    ]
  > = [
    [
      "no certificate",
      ({ files, fs }) => fs.remove(files.certFile),
      ({ certFile }) => `A_TLS_CERT_FILE="${certFile}": expected a PEM file, but there is no such file`
    ],
    [
      "no key",
      ({ files, fs }) => fs.remove(files.keyFile),
      ({ keyFile }) => `A_TLS_KEY_FILE="${keyFile}": expected a PEM file, but there is no such file`
    ],
    [
      "a folder",
      ({ files, fs }) => Effect.andThen(fs.remove(files.caFile), fs.makeDirectory(files.caFile)),
      ({ caFile }) => `A_TLS_CLIENT_CA_FILE="${caFile}": expected a PEM file, but it is not a regular file`
    ],
    [
      "an empty certificate",
      ({ files, fs }) => fs.writeFileString(files.certFile, ""),
      ({ certFile }) => `A_TLS_CERT_FILE="${certFile}": expected a PEM file with certificates, but it contains none`
    ],
    [
      "a CA without certificates",
      ({ files, fs, identity }) => fs.writeFileString(files.caFile, identity.key),
      ({ caFile }) => `A_TLS_CLIENT_CA_FILE="${caFile}": expected a PEM file with certificates, but it contains none`
    ],
    [
      "a certificate that does not parse",
      ({ authority, files, fs, identity }) =>
        fs.writeFileString(
          files.certFile,
          identity.cert + authority.cert.replace("MII", "MIX").replace("MIIB", "QUJD")
        ),
      ({ certFile }) =>
        new RegExp(
          `^A_TLS_CERT_FILE="${certFile}": expected a PEM file with certificates, but certificate 2 in it does not parse \\(.+\\)$`
        )
    ],
    [
      "a CA that is cut off",
      ({ authority, files, fs }) => fs.writeFileString(files.caFile, (authority.cert + authority.cert).slice(0, -40)),
      ({ caFile }) =>
        `A_TLS_CLIENT_CA_FILE="${caFile}": expected a PEM file with certificates, but certificate 2 in it does not parse (it is truncated)`
    ],
    [
      "a key that does not parse",
      ({ files, fs }) => fs.writeFileString(files.keyFile, "garbage"),
      ({ keyFile }) =>
        new RegExp(
          `^A_TLS_KEY_FILE="${keyFile}": expected a PEM file with the private key of the certificate, without a passphrase, but it does not parse \\(.+\\)$`
        )
    ],
    [
      "a key with a passphrase",
      ({ files, fs, identity }) =>
        fs.writeFileString(
          files.keyFile,
          createPrivateKey(identity.key)
            .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" })
            .toString()
        ),
      ({ keyFile }) =>
        `A_TLS_KEY_FILE="${keyFile}": expected a PEM file with the private key of the certificate, without a passphrase, but it has a passphrase`
    ],
    [
      "another certificate's key",
      ({ authority, files, fs }) =>
        Effect.flatMap(issued(authority), ({ key }) => fs.writeFileString(files.keyFile, key)),
      ({ certFile, keyFile }) =>
        `A_TLS_KEY_FILE="${keyFile}": expected the private key of the certificate, but it does not match the certificate in "${certFile}"`
    ],
    [
      "a certificate that has expired",
      (folder) =>
        replace(folder, { notBefore: new Date("2020-01-01T00:00:00Z"), notAfter: new Date("2020-02-01T00:00:00Z") }),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate that is valid now, but CN=localhost expired on 2020-02-01T00:00:00Z`
    ],
    [
      "a certificate that is not valid yet",
      (folder) =>
        replace(folder, { notBefore: new Date("2120-01-01T00:00:00Z"), notAfter: new Date("2120-02-01T00:00:00Z") }),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate that is valid now, but CN=localhost is not valid before 2120-01-01T00:00:00Z`
    ],
    [
      "a chain of which one has expired",
      (folder) =>
        Effect.flatMap(
          Effect.promise(() =>
            makeAuthority({
              parent: folder.authority,
              commonName: "Intermediate",
              notBefore: new Date("2020-01-01T00:00:00Z"),
              notAfter: new Date("2020-02-01T00:00:00Z")
            })
          ),
          (authority) => replace({ ...folder, authority })
        ),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate that is valid now, but CN=Intermediate expired on 2020-02-01T00:00:00Z`
    ],
    [
      "a CA of which all have expired",
      ({ files, fs }) =>
        Effect.flatMap(
          Effect.promise(() =>
            makeAuthority({ notBefore: new Date("2020-01-01T00:00:00Z"), notAfter: new Date("2020-02-01T00:00:00Z") })
          ),
          ({ cert }) => fs.writeFileString(files.caFile, cert)
        ),
      ({ caFile }) =>
        `A_TLS_CLIENT_CA_FILE="${caFile}": expected a CA certificate that is valid now, but CN=Development CA expired on 2020-02-01T00:00:00Z`
    ],
    [
      "a weak key",
      (folder) => replace(folder, { rsaBits: 1024 }),
      ({ certFile }) =>
        new RegExp(
          `^A_TLS_CERT_FILE="${certFile}": expected a certificate that TLS can use, but OpenSSL refuses it \\(.*key too small.*\\)$`
        )
    ],
    [
      "a certificate for clients alone",
      (folder) => replace(folder, { usage: "client" }),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate for a server, but its extended key usage does not include serverAuth`
    ],
    [
      "a certificate of a CA",
      ({ authority, files, fs }) => writeIdentity({ files, fs }, authority),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate for a server, but its key usage does not allow a TLS handshake`
    ],
    [
      "a certificate without a name that clients could ask for",
      (folder) => replace(folder, { names: ["URI:spiffe://a/b"] }),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate for a server, but it has no subjectAltName that is a DNS name or an IP address`
    ],
    [
      "a key that signs nothing",
      (folder) =>
        Effect.flatMap(certificateOf(generateKeyPairSync("x25519")), (issued) => writeIdentity(folder, issued)),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate for a server, but TLS does not support its key type x25519`
    ],
    [
      "a key on a curve that TLS 1.3 does not have",
      (folder) =>
        Effect.flatMap(certificateOf(generateKeyPairSync("ec", { namedCurve: "secp256k1" })), (issued) =>
          writeIdentity(folder, issued)
        ),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate for a server, but TLS 1.3 does not support the curve of its key, secp256k1`
    ],
    [
      "a FIFO",
      ({ files, fs }) => Effect.andThen(fs.remove(files.keyFile), makeFifo(files.keyFile)),
      ({ keyFile }) => `A_TLS_KEY_FILE="${keyFile}": expected a PEM file, but it is not a regular file`
    ],
    [
      "a device without an end",
      ({ files, fs }) => Effect.andThen(fs.remove(files.caFile), fs.symlink("/dev/zero", files.caFile)),
      ({ caFile }) => `A_TLS_CLIENT_CA_FILE="${caFile}": expected a PEM file, but it is not a regular file`
    ],
    [
      "a file of 5 GB",
      ({ files, fs }) => fs.truncate(files.caFile, 5_000_000_000),
      ({ caFile }) =>
        `A_TLS_CLIENT_CA_FILE="${caFile}": expected a PEM file of at most 1048576 bytes, but it has 5000000000`
    ]
  ]

  it.live.each(cases)("%s", ([, spoil, message]) =>
    Effect.gen(function* () {
      const folder = yield* folderWith()
      yield* spoil(folder)
      const error = yield* Effect.flip(readCertificates(folder.files, "server"))
      const expected = message(folder.files, folder)
      if (typeof expected === "string") assert.strictEqual(error.message, expected)
      else assert.match(error.message, expected)
      assert.notInclude(error.message, "\n")
      // a watch does not start either
      assert.strictEqual(
        (yield* Effect.flip(CertificateWatcher.watch(folder.files, { role: "server" }))).message,
        error.message
      )
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.live("a file that this user may not read", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(readCertificates({ caFile: "/ca.crt" }))
      assert.strictEqual(error.message, 'caFile="/ca.crt": expected a PEM file, but this user may not read it')
    }).pipe(
      Effect.provide(
        FileSystem.layerNoop({
          stat: () => Effect.succeed(regularFile),
          readFileString: () =>
            Effect.fail(
              PlatformError.systemError({ _tag: "PermissionDenied", module: "FileSystem", method: "readFile" })
            )
        })
      )
    )
  )
})

const makeFifo = (path: string) =>
  Effect.promise(
    () =>
      new Promise<void>((resolve, reject) => execFile("mkfifo", [path], (error) => (error ? reject(error) : resolve())))
  )

/** Puts another certificate and its key into a folder, each at one stroke. */
const replace = Effect.fnUntraced(function* (
  { authority, files, fs }: Pick<Effect.Success<ReturnType<typeof folderWith>>, "authority" | "files" | "fs">,
  options: Partial<IssueOptions> = {}
) {
  const identity = yield* issued(authority, options)
  yield* writeIdentity({ files, fs }, identity)
  return identity
})

/** At one stroke, so that no poll comes upon half a file. */
const put = (fs: FileSystem.FileSystem, file: string, content: string) =>
  Effect.andThen(fs.writeFileString(`${file}.new`, content), fs.rename(`${file}.new`, file))

const writeIdentity = Effect.fnUntraced(function* (
  { files, fs }: Pick<Effect.Success<ReturnType<typeof folderWith>>, "files" | "fs">,
  { cert, key }: Issued
) {
  yield* put(fs, files.keyFile, key)
  yield* put(fs, files.certFile, cert)
})

describe("certificates that are watched", () => {
  interface Trial {
    readonly watched: Certificates.Watched
    readonly folder: Effect.Success<ReturnType<typeof folderWith>>
    /** What has been logged. */
    readonly lines: ReadonlyArray<string>
    /** Waits until the files have been polled so often again. */
    readonly polls: (count: number) => Effect.Effect<void>
    /** Waits until the certificate is in use. */
    readonly takenUp: (identity: Issued) => Effect.Effect<void>
    /** The values of the metrics, by name and attributes. */
    readonly metrics: Effect.Effect<Record<string, unknown>>
  }

  /** A folder that is watched, as `files` of it. */
  const watching = <A, E>(
    trial: (trial: Trial) => Effect.Effect<A, E, FileSystem.FileSystem | Scope.Scope>,
    prepare: (folder: Trial["folder"]) => Effect.Effect<CertificateFiles, PlatformError.PlatformError> = (folder) =>
      Effect.succeed(folder.files)
  ) => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => void lines.push(`${logLevel} ${message}`))
    return Effect.gen(function* () {
      const folder = yield* folderWith()
      const files = yield* prepare(folder)
      const waiting = new Map<number, () => void>()
      let reads = 0
      const counting = FileSystem.FileSystem.of({
        ...folder.fs,
        readFileString: (path) =>
          Effect.suspend(() => {
            // each poll begins with it
            if (path === files.certFile) waiting.get(++reads)?.()
            return folder.fs.readFileString(path)
          })
      })
      const watched = yield* Effect.provideService(
        CertificateWatcher.watch(files, { role: "server", interval: "2 millis" }),
        FileSystem.FileSystem,
        counting
      )
      return yield* trial({
        watched,
        folder,
        lines,
        // one that has begun already does not count, and the last one has ended when the next begins
        polls: (count) =>
          Effect.callback<void>((resume) => void waiting.set(reads + count + 1, () => resume(Effect.void))),
        takenUp: ({ cert }) =>
          watched.changes.pipe(
            Stream.filter(({ identity }) => identity?.cert === cert),
            Stream.take(1),
            Stream.runDrain
          ),
        metrics: Effect.map(Metric.snapshot, (snapshots) =>
          Object.fromEntries(
            snapshots.map(({ attributes, id, state }) => [
              [id.replace("tls_certificate_", ""), ...Object.values(attributes ?? {})].join(" "),
              "count" in state ? state.count : "value" in state ? state.value : state
            ])
          )
        )
      })
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.merge(NodeFileSystem.layer, Logger.layer([logger]))),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
  }

  const refusals = (lines: ReadonlyArray<string>) => lines.filter((line) => line.startsWith("Warn"))

  it.live("do nothing while nothing changes", () =>
    watching(({ folder, lines, metrics, polls, watched }) =>
      Effect.gen(function* () {
        const before = watched.current()
        yield* polls(2)
        // another file with what it had
        yield* writeIdentity(folder, folder.identity)
        yield* polls(3)
        assert.strictEqual(watched.current(), before)
        assert.deepStrictEqual(lines, [])
        const { "time_to_expiry_seconds server certificate": left, ...others } = yield* metrics
        assert.closeTo(Number(left), 90 * 24 * 60 * 60, 60)
        assert.isBelow(Number(left), before.identity!.notAfter / 1000 - now / 1000)
        assert.deepInclude(others, {
          "reloads_total server": 0,
          "reload_failures_total server": 0,
          "expiry_timestamp_seconds server certificate": before.identity!.notAfter / 1000,
          "expiry_timestamp_seconds server ca": before.ca!.notAfter / 1000
        })
      })
    )
  )

  it.live("are replaced by those that are written over them", () =>
    watching(({ folder, lines, metrics, takenUp, watched }) =>
      Effect.gen(function* () {
        const authority = yield* authorities
        const identity = yield* issued(authority, { names: ["DNS:b"], notAfter: daysFromNow(3) })
        const { files, fs } = folder
        yield* fs.writeFileString(files.certFile, identity.cert)
        yield* fs.writeFileString(files.keyFile, identity.key)
        yield* fs.writeFileString(files.caFile, folder.authority.cert + authority.cert)
        yield* watched.changes.pipe(
          Stream.filter(({ ca }) => ca?.pem === folder.authority.cert + authority.cert),
          Stream.take(1),
          Stream.runDrain
        )
        yield* takenUp(identity)
        assert.strictEqual(Redacted.value(watched.current().identity!.key), identity.key)
        assert.include(
          lines.at(-1),
          "Info TLS certificates of the server reloaded: certificate CN=b, DNS:b is valid until 20"
        )
        assert.deepInclude(yield* metrics, {
          "expiry_timestamp_seconds server certificate": seconds(daysFromNow(3)),
          "expiry_timestamp_seconds server ca": seconds(new Date(watched.current().ca!.notAfter))
        })
      })
    )
  )

  it.live("are replaced when Kubernetes swaps the link to their folder", () =>
    watching(
      ({ folder, lines, metrics, takenUp }) =>
        Effect.gen(function* () {
          const { fs } = folder
          const identity = yield* issued(folder.authority)
          yield* fs.makeDirectory(`${folder.folder}/..2`)
          yield* fs.writeFileString(`${folder.folder}/..2/tls.crt`, identity.cert)
          yield* fs.writeFileString(`${folder.folder}/..2/tls.key`, identity.key)
          yield* fs.writeFileString(`${folder.folder}/..2/ca.crt`, folder.authority.cert)
          yield* fs.symlink("..2", `${folder.folder}/..data_tmp`)
          yield* fs.rename(`${folder.folder}/..data_tmp`, `${folder.folder}/..data`)
          yield* fs.remove(`${folder.folder}/..1`, { recursive: true })
          yield* takenUp(identity)
          assert.deepStrictEqual(refusals(lines), [])
          assert.strictEqual(lines.length, 1)
          assert.deepInclude(yield* metrics, { "reloads_total server": 1, "reload_failures_total server": 0 })
        }),
      ({ files, folder, fs }) =>
        Effect.gen(function* () {
          yield* fs.makeDirectory(`${folder}/..1`)
          yield* fs.symlink("..1", `${folder}/..data`)
          for (const name of ["tls.crt", "tls.key", "ca.crt"]) {
            yield* fs.rename(`${folder}/${name}`, `${folder}/..1/${name}`)
            yield* fs.symlink(`..data/${name}`, `${folder}/${name}`)
          }
          return files
        })
    )
  )

  it.live.each([
    ["garbage", ({ files, fs }) => put(fs, files.certFile, "garbage"), "it contains none"],
    [
      "another certificate's key",
      ({ files, fs }) => Effect.flatMap(Effect.flatMap(authorities, issued), ({ key }) => put(fs, files.keyFile, key)),
      "it does not match the certificate"
    ],
    [
      "an expired certificate",
      ({ authority, files, fs, identity }) =>
        Effect.flatMap(
          issued(authority, { key: identity.key, notBefore: daysFromNow(-2), notAfter: daysFromNow(-1) }),
          ({ cert }) => put(fs, files.certFile, cert)
        ),
      "CN=localhost expired on"
    ],
    ["a file that is gone", ({ files, fs }) => fs.remove(files.keyFile), "there is no such file"],
    [
      "a certificate for clients",
      ({ authority, files, fs, identity }) =>
        Effect.flatMap(issued(authority, { key: identity.key, usage: "client" }), ({ cert }) =>
          put(fs, files.certFile, cert)
        ),
      "its extended key usage does not include serverAuth"
    ],
    [
      "a FIFO that nobody writes to",
      ({ files, fs }) => Effect.andThen(fs.remove(files.caFile), makeFifo(files.caFile)),
      "it is not a regular file"
    ],
    [
      "a device without an end",
      ({ files, fs }) => Effect.andThen(fs.remove(files.caFile), fs.symlink("/dev/zero", files.caFile)),
      "it is not a regular file"
    ],
    ["a file of 5 GB", ({ files, fs }) => fs.truncate(files.caFile, 5_000_000_000), "it has 5000000000"],
    ["a CA that is no more", ({ files, fs }) => put(fs, files.caFile, ""), "it contains none"]
  ] as ReadonlyArray<
    readonly [string, (folder: Trial["folder"]) => Effect.Effect<unknown, PlatformError.PlatformError>, string]
  >)("stay in use beside %s, which is refused once", ([, spoil, reason]) =>
    watching(({ folder, lines, metrics, polls, takenUp, watched }) =>
      Effect.gen(function* () {
        const before = watched.current()
        yield* spoil(folder)
        yield* polls(6)
        assert.strictEqual(watched.current(), before)
        assert.strictEqual(refusals(lines).length, 1)
        assert.include(
          lines[0],
          "Warn TLS certificates of the server not reloaded, the previous ones stay in use: A_TLS_"
        )
        assert.include(lines[0], reason)
        assert.notInclude(lines[0], "\n")
        assert.deepInclude(yield* metrics, { "reloads_total server": 0, "reload_failures_total server": 1 })

        // and what is good after it is taken up
        yield* put(folder.fs, folder.files.caFile, folder.authority.cert)
        const identity = yield* replace(folder)
        yield* takenUp(identity)
        yield* polls(1)
        assert.strictEqual((yield* metrics)["reloads_total server"], 1)
        assert.include(lines.at(-1), "Info TLS certificates of the server reloaded")
      })
    )
  )

  it.live("stay in use when they come back, which is not news, though the next bad ones are", () =>
    watching(({ folder, lines, metrics, polls, watched }) =>
      Effect.gen(function* () {
        const before = watched.current()
        const { certFile } = folder.files
        for (const count of [1, 2]) {
          yield* put(folder.fs, certFile, "garbage")
          yield* polls(3)
          assert.strictEqual(refusals(lines).length, count)
          yield* put(folder.fs, certFile, folder.identity.cert)
          yield* polls(3)
        }
        yield* put(folder.fs, certFile, "garbage")
        yield* polls(3)
        yield* put(folder.fs, certFile, "other garbage")
        yield* polls(3)
        assert.strictEqual(refusals(lines).length, 4)
        assert.strictEqual(lines.length, 4)
        assert.strictEqual(watched.current(), before)
        assert.deepInclude(yield* metrics, { "reloads_total server": 0, "reload_failures_total server": 4 })
      })
    )
  )

  it.effect("are not looked at before they have been read the same twice", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const authority = yield* authorities
      const [old, next] = [yield* issued(authority), yield* issued(authority)]
      // what the files hold; a poll takes no time
      let identity = old
      const fs = FileSystem.layerNoop({
        stat: () => Effect.succeed(regularFile),
        readFileString: (path) => Effect.sync(() => (path === "cert" ? identity.cert : identity.key))
      })
      yield* TestClock.setTime(now)
      const { current } = yield* CertificateWatcher.watch(
        { certFile: "cert", keyFile: "key" },
        { role: "server" }
      ).pipe(
        Effect.provide(
          Layer.merge(fs, Logger.layer([Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))]))
        )
      )
      // the certificate has been written, and its key has not
      identity = { cert: next.cert, key: old.key }
      yield* TestClock.adjust("1 second")
      identity = next
      yield* TestClock.adjust("1 second")
      assert.strictEqual(current().identity?.cert, old.cert)
      assert.deepStrictEqual(lines, [])
      yield* TestClock.adjust("1 second")
      assert.strictEqual(current().identity?.cert, next.cert)
      assert.strictEqual(lines.length, 1)

      // not valid yet, but in an hour, without another change
      const later = yield* issued(authority, { notBefore: new Date(now + 60 * 60 * 1000) })
      identity = later
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(current().identity?.cert, next.cert)
      assert.strictEqual(lines.length, 2)
      assert.include(lines[1], "is not valid before")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(current().identity?.cert, later.cert)
      assert.strictEqual(lines.length, 3)
    })
  )

  it.live("of a client have a name, and are for clients", () =>
    Effect.gen(function* () {
      const folder = yield* folderWith()
      const why = Effect.map(Effect.flip(readCertificates(folder.files, "client")), ({ message }) =>
        message.replace(/^.*, but /, "")
      )
      assert.strictEqual(yield* why, "its extended key usage does not include clientAuth")
      yield* replace(folder, { usage: "client", names: [] })
      assert.strictEqual(yield* why, "it has no subjectAltName")
      yield* replace(folder, { usage: "client", names: ["URI:spiffe://a/b"] })
      yield* readCertificates(folder.files, "client")
    }).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer))
  )

  it.live("are left alone when their scope closes", () =>
    Effect.gen(function* () {
      const { files, fs } = yield* folderWith()
      const scope = yield* Scope.make()
      let reads = 0
      const counting = FileSystem.FileSystem.of({
        ...fs,
        readFileString: (path) =>
          Effect.andThen(
            Effect.sync(() => reads++),
            fs.readFileString(path)
          )
      })
      yield* CertificateWatcher.watch(files, { role: "server", interval: "1 millis" }).pipe(
        Scope.provide(scope),
        Effect.provideService(FileSystem.FileSystem, counting)
      )
      yield* Scope.close(scope, Exit.void)
      const before = reads
      // as long as a few polls would take
      for (let i = 0; i < 20; i++) yield* fs.readFileString(files.certFile)
      assert.strictEqual(reads, before)
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )
})

describe("revocation lists", () => {
  /** A folder with a list of its authority, which revokes nothing. */
  const withCrl = Effect.fnUntraced(function* () {
    const folder = yield* folderWith()
    const files = {
      ...folder.files,
      crlFile: `${folder.folder}/crl.pem`,
      variables: { ...variables, crlFile: "A_TLS_CLIENT_CRL_FILE" }
    }
    const write = (...lists: ReadonlyArray<string>) => put(folder.fs, files.crlFile, lists.join(""))
    const why = Effect.map(Effect.flip(readCertificates(files, "server")), ({ message }) => message)
    yield* write(yield* list(folder.authority))
    return { ...folder, files, write, why }
  })

  const list = (authority: Issued, certificates: ReadonlyArray<Issued> = [], options?: Parameters<typeof revoke>[2]) =>
    Effect.promise(() => revoke(authority, certificates, options))

  it.live("say whose certificates were revoked, and until when they are good", () =>
    Effect.gen(function* () {
      const { authority, files, write } = yield* withCrl()
      const clients = [yield* issued(authority, { usage: "client" }), yield* issued(authority, { usage: "client" })]
      yield* write(yield* list(authority, clients, { nextUpdate: daysFromNow(3) }))
      const { crl } = yield* readCertificates(files, "server")
      assert.deepStrictEqual(
        crl!.revoked,
        new Set(clients.map(({ cert }) => RevocationList.certificateId(new X509Certificate(cert))))
      )
      assert.strictEqual(crl!.notAfter, seconds(daysFromNow(3)) * 1000)
    }).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer))
  )

  it.live("are refused when they are not of every authority, are cut off, have run out, or are signed by another", () =>
    Effect.gen(function* () {
      const { authority, files, fs, why, write } = yield* withCrl()
      const root = yield* authorities
      const crl = yield* list(authority)
      yield* fs.writeFileString(files.caFile, authority.cert + root.cert)
      // both are called so, but only one has signed it
      assert.match(yield* why, /expected a CRL of each authority in ".*", but there is none of CN=Development CA$/)
      yield* write(crl, yield* list(root))
      yield* readCertificates(files, "server")
      yield* write((crl + crl).slice(0, -40))
      assert.match(yield* why, /expected a PEM file with CRLs, but CRL 2 in it does not parse \(it is truncated\)$/)
      yield* write(crl.replace("MII", "MIX").replace(/\n[^-\n]+\n-/, "\n-"))
      assert.match(yield* why, /expected a PEM file with CRLs, but CRL 1 in it does not parse/)
      yield* write("")
      assert.match(yield* why, /expected a PEM file with CRLs, but it contains none$/)
      yield* write(
        yield* list(authority, [], { thisUpdate: daysFromNow(-2), nextUpdate: daysFromNow(-1) }),
        yield* list(root)
      )
      assert.match(yield* why, /expected CRLs that are valid now, but one of them expired on 20/)
      yield* write(yield* list(authority, [], { thisUpdate: daysFromNow(1) }), yield* list(root))
      assert.match(yield* why, /expected CRLs that are valid now, but one of them is not valid before 20/)
    }).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer))
  )

  it.effect("are warned of a day before they run out, and when they have, once; a metric says when", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const authority = yield* authorities
      const crl = yield* list(authority, [], { nextUpdate: daysFromNow(2) })
      const fs = FileSystem.layerNoop({
        stat: () => Effect.succeed(regularFile),
        readFileString: (path) => Effect.succeed(path === "ca" ? authority.cert : crl)
      })
      yield* TestClock.setTime(now)
      yield* CertificateWatcher.watch({ caFile: "ca", crlFile: "crl" }, { role: "server", interval: "1 hour" }).pipe(
        Effect.provide(
          Layer.merge(fs, Logger.layer([Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))]))
        )
      )
      const at = new Date(seconds(daysFromNow(2)) * 1000).toISOString().replace(".000", "")
      yield* TestClock.adjust("23 hours")
      assert.deepStrictEqual(lines, [])
      yield* TestClock.adjust("20 hours")
      assert.deepStrictEqual(lines, [
        `CRL of the server expires on ${at}: certificates of its authority will be refused then`
      ])
      yield* TestClock.adjust("20 hours")
      assert.deepStrictEqual(lines.slice(1), [
        `CRL of the server expired on ${at}: certificates of its authority are refused`
      ])
      const snapshots = yield* Metric.snapshot
      const values = snapshots.flatMap(({ id, state }) => (id.startsWith("tls_crl_") && "value" in state ? [id] : []))
      assert.sameMembers(values, ["tls_crl_expiry_timestamp_seconds", "tls_crl_time_to_expiry_seconds"])
    }).pipe(Effect.scoped, Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})
