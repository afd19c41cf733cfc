/**
 * `npm run certs` creates certificates for mutual TLS between the two services.
 */
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import * as tls from "node:tls"
import { fileURLToPath } from "node:url"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { ConfigProvider, Effect, FileSystem, Option, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

import * as Certificates from "../../../src/layers/tls/Certificates.ts"
import * as PeerIdentity from "../../../src/layers/tls/PeerIdentity.ts"
import * as TlsSettings from "../../../src/layers/tls/TlsSettings.ts"
import { readCertificates } from "../../../src/layers/tls/validateCertificates.ts"

const script = fileURLToPath(new URL("../../../scripts/certs.ts", import.meta.url))

/** Runs the script and returns the variables that it prints. */
const makeCerts = Effect.fnUntraced(function* (folder: string, ...args: ReadonlyArray<string>) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(
    ChildProcess.make(process.execPath, [script, folder, ...args], { extendEnv: true, stderr: "inherit" })
  )
  const output = yield* Stream.mkString(Stream.decodeText(handle.stdout))
  assert.strictEqual(Number(yield* handle.exitCode), 0)
  return Object.fromEntries(
    output
      .trim()
      .split("\n")
      .map((line) => /^export (\w+)=(.+)$/.exec(line)!.slice(1))
  ) as Record<string, string>
}, Effect.scoped)

/** The file modes of a folder (under "") and its files. */
const modes = Effect.fnUntraced(function* (folder: string) {
  const fs = yield* FileSystem.FileSystem
  const names = ["", ...(yield* fs.readDirectory(folder))]
  const entries = yield* Effect.forEach(names, (name) =>
    Effect.map(fs.stat(`${folder}/${name}`), ({ mode }) => [name, (mode & 0o777).toString(8)] as const)
  )
  return Object.fromEntries(entries)
})

/** The modes of a folder that only its user can open. */
const closed = {
  "": "700",
  "ca.pem": "644",
  "ca-key.pem": "600",
  "marketplace.pem": "644",
  "marketplace-key.pem": "644",
  "recommendations.pem": "644",
  "recommendations-key.pem": "644"
}

/** Reads the settings and the certificates of both services. */
const readAll = Effect.fnUntraced(function* (env: Record<string, string>) {
  const provider = ConfigProvider.fromEnv({ env })
  const server = Option.getOrThrow(yield* TlsSettings.server("RECOMMENDATIONS").parse(provider))
  const client = Option.getOrThrow(yield* TlsSettings.client("MARKETPLACE").parse(provider))
  return {
    allowedClients: Option.getOrThrow(server.allowedClients),
    server: yield* readCertificates(server.files),
    client: yield* readCertificates(client.files)
  }
})

/** Connects and returns what the server knows of the client. */
const connect = (
  server: Certificates.Certificates,
  client: Certificates.Certificates,
  options: tls.ConnectionOptions = {}
) =>
  Effect.tryPromise(async () => {
    const listener = tls.createServer({
      ...Certificates.secureContextOptions(server),
      requestCert: true,
      rejectUnauthorized: true
    })
    listener.listen(0, "127.0.0.1")
    await once(listener, "listening")
    const { port } = listener.address() as AddressInfo
    const socket = tls.connect({
      ...Certificates.secureContextOptions(client),
      host: "127.0.0.1",
      port,
      ...options
    })
    // with TLS 1.3 a refused client learns of it after its handshake
    socket.on("error", () => {})
    try {
      const [[accepted]] = (await Promise.all([
        Promise.race([
          once(listener, "secureConnection"),
          once(listener, "tlsClientError").then(([error]) => Promise.reject(error))
        ]),
        once(socket, "secureConnect")
      ])) as [[tls.TLSSocket], unknown]
      const known = {
        isAuthorized: accepted.authorized && socket.authorized,
        protocol: accepted.getProtocol(),
        cipher: accepted.getCipher().name,
        names: PeerIdentity.subjectAltNames(accepted.getPeerCertificate())
      }
      accepted.destroy()
      return known
    } finally {
      socket.destroy()
      listener.close()
    }
  })

layer(NodeServices.layer, { excludeTestServices: true })("npm run certs", (it) => {
  it.effect("makes certificates with which client and server authenticate each other", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const folder = `${yield* fs.makeTempDirectoryScoped()}/certs`
      const env = yield* makeCerts(folder)
      const { allowedClients, client, server } = yield* readAll(env)

      for (const options of [{}, { servername: "localhost" }, { servername: "recommendations" }]) {
        const { names, ...known } = yield* connect(server, client, options)
        assert.deepStrictEqual(known, { isAuthorized: true, protocol: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256" })
        assert.deepStrictEqual(names, [
          { type: "DNS", value: "marketplace" },
          { type: "URI", value: "spiffe://onlinebooks/marketplace" }
        ])
        assert.isTrue(PeerIdentity.isAllowed(names, allowedClients))
      }
      const { cipher, protocol } = yield* connect(server, client, { maxVersion: "TLSv1.2" })
      assert.deepStrictEqual({ cipher, protocol }, { cipher: "ECDHE-ECDSA-AES128-GCM-SHA256", protocol: "TLSv1.2" })

      // another name, an older version, and no certificate
      for (const options of [
        { servername: "marketplace" },
        { minVersion: "TLSv1.1", maxVersion: "TLSv1.1" },
        { cert: undefined, key: undefined }
      ] as ReadonlyArray<tls.ConnectionOptions>) {
        yield* Effect.flip(connect(server, client, options))
      }
    })
  )

  it.effect("protects the keys by the mode of the folder, so that a container can read mounted files", () =>
    Effect.gen(function* () {
      const folder = `${yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()}/new/certs`
      // with the strictest and with the most permissive umask
      for (const umask of [0o077, 0]) {
        yield* Effect.acquireUseRelease(
          Effect.sync(() => process.umask(umask)),
          () => makeCerts(folder),
          (before) => Effect.sync(() => process.umask(before))
        )
        assert.deepStrictEqual(yield* modes(folder), closed)
      }
    })
  )

  it.effect("restricts the mode of an empty folder and of one from an earlier version", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const folder = `${yield* fs.makeTempDirectoryScoped()}/certs`
      yield* fs.makeDirectory(folder)
      yield* fs.chmod(folder, 0o755)
      const before = yield* readAll(yield* makeCerts(folder))
      assert.deepStrictEqual(yield* modes(folder), closed)

      // the modes of an earlier version of the script
      yield* fs.chmod(folder, 0o755)
      for (const name of ["recommendations", "marketplace"]) yield* fs.chmod(`${folder}/${name}-key.pem`, 0o600)
      yield* fs.writeFileString(`${folder}/marketplace.pem.new`, "half of a run that was interrupted")
      const after = yield* readAll(yield* makeCerts(folder))
      assert.deepStrictEqual(yield* modes(folder), closed)
      assert.strictEqual(after.server.ca?.pem, before.server.ca?.pem)
    })
  )

  it.effect("protects each key by its own mode in a folder with other files", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped()
      yield* fs.chmod(folder, 0o755)
      yield* fs.writeFileString(`${folder}/notes.txt`, "")
      yield* fs.chmod(`${folder}/notes.txt`, 0o644)
      yield* makeCerts(folder)
      yield* makeCerts(folder)
      assert.deepStrictEqual(yield* modes(folder), {
        ...closed,
        "": "755",
        "notes.txt": "644",
        "marketplace-key.pem": "600",
        "recommendations-key.pem": "600"
      })
    })
  )

  it.effect("replaces the certificates and keeps a valid authority", () =>
    Effect.gen(function* () {
      const folder = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
      const before = yield* readAll(yield* makeCerts(folder, "--days", "2"))
      const after = yield* readAll(yield* makeCerts(folder, "--days", "3650"))
      assert.strictEqual(after.server.ca?.pem, before.server.ca?.pem)
      assert.notStrictEqual(after.server.identity?.cert, before.server.identity?.cert)
      const day = 24 * 60 * 60 * 1000
      assert.closeTo(after.server.identity!.notAfter - before.server.identity!.notAfter, 3648 * day, day / 2)
      assert.isTrue((yield* connect(before.server, after.client)).isAuthorized)

      yield* (yield* FileSystem.FileSystem).writeFileString(`${folder}/ca.pem`, "garbage")
      const anew = yield* readAll(yield* makeCerts(folder))
      assert.notStrictEqual(anew.server.ca?.pem, after.server.ca?.pem)
      yield* Effect.flip(connect(anew.server, after.client))
      assert.isTrue((yield* connect(anew.server, anew.client)).isAuthorized)
    })
  )
})
