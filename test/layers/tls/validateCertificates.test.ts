import { createPrivateKey, generateKeyPairSync, type KeyObject, webcrypto, X509Certificate } from "node:crypto"
import { createSecureContext } from "node:tls"

// wanted by @peculiar/x509 before itself
import "reflect-metadata"
import { NodeFileSystem } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as x509 from "@peculiar/x509"
import { Effect, FileSystem, PlatformError, Redacted } from "effect"

import { type Issued, makeAuthority } from "../../../scripts/certificates.ts"
import { resolveFiles } from "../../../src/layers/tls/CertificateFiles.ts"
import * as Certificates from "../../../src/layers/tls/Certificates.ts"
import * as CertificateWatcher from "../../../src/layers/tls/CertificateWatcher.ts"
import * as RevocationList from "../../../src/layers/tls/RevocationList.ts"
import { readCertificates } from "../../../src/layers/tls/validateCertificates.ts"
import {
  authorities,
  daysFromNow,
  folderWith,
  issued,
  makeFifo,
  put,
  regularFile,
  replace,
  revocationList,
  seconds,
  variables,
  writeIdentity
} from "./CertificateFolder.ts"

describe("readCertificates", () => {
  it.live("returns the PEM, the names and the expiry of a certificate and its CA", () =>
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

  it.live("accepts a certificate without a CA, a CA alone, or neither", () =>
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

  it.live("returns the earliest expiry of a certificate chain", () =>
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

  it.live("accepts the extended key usage any, and Ed25519 and P-384 keys", () =>
    Effect.gen(function* () {
      const { files, fs } = yield* folderWith()
      for (const keys of [generateKeyPairSync("ed25519"), generateKeyPairSync("ec", { namedCurve: "secp384r1" })]) {
        yield* writeIdentity({ files, fs }, yield* certificateOf(keys))
        assert.strictEqual((yield* readCertificates(files, "server")).identity?.subject, "CN=localhost")
      }
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.live("accepts an expired CA beside a valid one", () =>
    Effect.gen(function* () {
      const old = yield* Effect.promise(() => makeAuthority({ notBefore: daysFromNow(-9), notAfter: daysFromNow(-1) }))
      const next = yield* Effect.promise(() => makeAuthority({ notAfter: daysFromNow(5) }))
      const { files } = yield* folderWith({ ca: old.cert + next.cert })
      const { ca } = yield* readCertificates(files)
      assert.strictEqual(ca!.pem.match(/BEGIN/g)?.length, 2)
      assert.strictEqual(ca!.notAfter, seconds(daysFromNow(5)) * 1000)
    }).pipe(Effect.provide(NodeFileSystem.layer))
  )

  it.live("accepts a SEC 1 key after EC parameters", () =>
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

  it("resolves relative paths", () => {
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

  it.live("requires clientAuth and a name in a certificate for a client", () =>
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
})

type Keys = { readonly publicKey: KeyObject; readonly privateKey: KeyObject }

/** A certificate for a key of any type, with the extended key usage any by default. */
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

describe("readCertificates refuses with a one-line message", () => {
  type Folder = Effect.Success<ReturnType<typeof folderWith>>

  /** Invalidates a valid folder, and returns the expected message. */
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
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a PEM file with certificates, but the file contains no certificate`
    ],
    [
      "a CA without certificates",
      ({ files, fs, identity }) => fs.writeFileString(files.caFile, identity.key),
      ({ caFile }) =>
        `A_TLS_CLIENT_CA_FILE="${caFile}": expected a PEM file with certificates, but the file contains no certificate`
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
      "a truncated CA",
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
      "a chain with an expired certificate",
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
      "a CA file with expired certificates only",
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
          `^A_TLS_CERT_FILE="${certFile}": expected a certificate that TLS can use, but OpenSSL rejects it \\(.*key too small.*\\)$`
        )
    ],
    [
      "a certificate for clients only",
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
      "a certificate without a name that clients can verify",
      (folder) => replace(folder, { names: ["URI:spiffe://a/b"] }),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate for a server, but it has no subjectAltName that is a DNS name or an IP address`
    ],
    [
      "a key that cannot sign",
      (folder) =>
        Effect.flatMap(certificateOf(generateKeyPairSync("x25519")), (issued) => writeIdentity(folder, issued)),
      ({ certFile }) =>
        `A_TLS_CERT_FILE="${certFile}": expected a certificate for a server, but TLS does not support its key type x25519`
    ],
    [
      "a key on a curve that TLS 1.3 does not support",
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
      "an endless device",
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
      // a watcher fails in the same way
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

describe("readCertificates with revocation lists", () => {
  /** A folder with an empty CRL of its authority. */
  const withCrl = Effect.fnUntraced(function* () {
    const folder = yield* folderWith()
    const files = {
      ...folder.files,
      crlFile: `${folder.folder}/crl.pem`,
      variables: { ...variables, crlFile: "A_TLS_CLIENT_CRL_FILE" }
    }
    const write = (...lists: ReadonlyArray<string>) => put(folder.fs, files.crlFile, lists.join(""))
    const why = Effect.map(Effect.flip(readCertificates(files, "server")), ({ message }) => message)
    yield* write(yield* revocationList(folder.authority))
    return { ...folder, files, write, why }
  })

  it.live("returns the revoked certificates and the expiry", () =>
    Effect.gen(function* () {
      const { authority, files, write } = yield* withCrl()
      const clients = [yield* issued(authority, { usage: "client" }), yield* issued(authority, { usage: "client" })]
      yield* write(yield* revocationList(authority, clients, { nextUpdate: daysFromNow(3) }))
      const { crl } = yield* readCertificates(files, "server")
      assert.deepStrictEqual(
        crl!.revoked,
        new Set(clients.map(({ cert }) => RevocationList.certificateId(new X509Certificate(cert))))
      )
      assert.strictEqual(crl!.notAfter, seconds(daysFromNow(3)) * 1000)
    }).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer))
  )

  it.live("refuses lists that are missing for an authority, truncated, expired or signed by another key", () =>
    Effect.gen(function* () {
      const { authority, files, fs, why, write } = yield* withCrl()
      const root = yield* authorities
      const crl = yield* revocationList(authority)
      yield* fs.writeFileString(files.caFile, authority.cert + root.cert)
      // both authorities have this name, but only one has signed the list
      assert.match(yield* why, /expected a CRL of each authority in ".*", but there is none of CN=Development CA$/)
      yield* write(crl, yield* revocationList(root))
      yield* readCertificates(files, "server")
      yield* write((crl + crl).slice(0, -40))
      assert.match(yield* why, /expected a PEM file with CRLs, but CRL 2 in it does not parse \(it is truncated\)$/)
      yield* write(crl.replace("MII", "MIX").replace(/\n[^-\n]+\n-/, "\n-"))
      assert.match(yield* why, /expected a PEM file with CRLs, but CRL 1 in it does not parse/)
      yield* write("")
      assert.match(yield* why, /expected a PEM file with CRLs, but the file contains no CRL$/)
      yield* write(
        yield* revocationList(authority, [], { thisUpdate: daysFromNow(-2), nextUpdate: daysFromNow(-1) }),
        yield* revocationList(root)
      )
      assert.match(yield* why, /expected CRLs that are valid now, but one of them expired on 20/)
      yield* write(yield* revocationList(authority, [], { thisUpdate: daysFromNow(1) }), yield* revocationList(root))
      assert.match(yield* why, /expected CRLs that are valid now, but one of them is not valid before 20/)
    }).pipe(Effect.scoped, Effect.provide(NodeFileSystem.layer))
  )
})
