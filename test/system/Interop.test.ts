/**
 * gRPC's interoperability tests between this library and Python's grpcio, in plaintext and over TLS. test/interop/README.md lists
 * the cases and the peers between which each one runs.
 */
import { readFileSync } from "node:fs"

import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, FileSystem, Layer } from "effect"

import * as Exceptions from "../interop/Exceptions.ts"
import * as InteropClient from "../interop/InteropClient.ts"
import * as InteropServer from "../interop/InteropServer.ts"
import { timeLimit, type Transport, transports } from "../interop/InteropService.ts"
import * as Tls from "../layers/tls/Tls.ts"
import { ForeignTools } from "./ForeignTools.ts"

/** Certificates for TLS, as values and as files. */
const makeIdentity = Effect.fnUntraced(function* (transport: Transport) {
  if (transport === "plaintext") return undefined
  const fs = yield* FileSystem.FileSystem
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-interop-" })
  const write = (name: string, text: string) =>
    Effect.as(fs.writeFileString(`${folder}/${name}`, text), `${folder}/${name}`)
  const authority = yield* Tls.makeAuthority()
  const server = yield* Tls.serverCertificate(authority)
  return {
    ca: authority.cert,
    server,
    files: {
      ca: yield* write("ca.pem", authority.cert),
      cert: yield* write("cert.pem", server.cert),
      key: yield* write("key.pem", server.key)
    }
  }
}, Effect.orDie)

/** A running server in Python, as the settings with which this library connects to it. */
class PythonServer extends Context.Service<PythonServer, InteropClient.Connection>()(
  "onlinebooks/test/system/PythonServer"
) {
  static readonly layer = (transport: Transport) =>
    Layer.effect(
      PythonServer,
      Effect.gen(function* () {
        const identity = yield* makeIdentity(transport)
        const { interopServer } = yield* ForeignTools
        const port = yield* interopServer(
          identity === undefined ? {} : { cert: identity.files.cert, key: identity.files.key }
        )
        return yield* InteropClient.connectionTo(`127.0.0.1:${port}`, identity?.ca)
      })
    )
}

/** The outcomes of all cases of the client in Python against a server of this library: null, or the error. */
class PythonClient extends Context.Service<PythonClient, { readonly [name: string]: string | null }>()(
  "onlinebooks/test/system/PythonClient"
) {
  static readonly layer = (transport: Transport) =>
    Layer.effect(
      PythonClient,
      Effect.gen(function* () {
        const identity = yield* makeIdentity(transport)
        const target = yield* InteropServer.start(identity?.server)
        const { interopClient } = yield* ForeignTools
        return yield* interopClient(
          identity === undefined ? { target } : { target, ca: identity.files.ca, name: "localhost" }
        )
      })
    )
}

/** The names of the cases of python/interop_client.py. */
const pythonCases = Array.from(
  readFileSync(new URL("python/interop_client.py", import.meta.url), "utf8").matchAll(/^@case\ndef (\w+)/gm),
  ([, name = ""]) => name
)

/** The cases that test/interop/README.md lists for the client in Python. */
const listedCases = Array.from(
  readFileSync(new URL("../interop/README.md", import.meta.url), "utf8").matchAll(/^\| (\w+).*\| yes[^|]*\|$/gm),
  ([, name = ""]) => name
)

const tools = Layer.merge(ForeignTools.layer, NodeServices.layer)

for (const transport of transports) {
  layer(Layer.provide(PythonClient.layer(transport), tools), { excludeTestServices: true })(
    `client: Python's grpcio, server: this library, ${transport}`,
    (it) => {
      for (const name of pythonCases) {
        const fault = Exceptions.faultOf(name, "this library")
        const run = () => Effect.map(PythonClient, (outcomes) => assert.isNull(outcomes[name]))
        if (fault !== undefined) it.effect.fails(`${name} (known fault: ${fault})`, run)
        else it.effect(name, run)
      }
      it.effect("runs all cases", () =>
        Effect.map(PythonClient, (outcomes) => {
          assert.deepStrictEqual(Object.keys(outcomes), pythonCases)
          assert.sameMembers(pythonCases, listedCases)
        })
      )
    }
  )

  layer(Layer.provide(PythonServer.layer(transport), tools), { excludeTestServices: true })(
    `client: this library, server: Python's grpcio, ${transport}`,
    (it) => {
      for (const name of Object.keys(InteropClient.cases) as ReadonlyArray<InteropClient.CaseName>) {
        const reason = Exceptions.whyNotDone(name, "Python's grpcio")
        const run = () =>
          Effect.flatMap(PythonServer, (connection) => InteropClient.run(name, connection)).pipe(
            Effect.timeout(timeLimit)
          )
        if (reason !== undefined) it.effect.skip(`${name} (skipped: ${reason})`, run)
        else it.effect(name, run)
      }
    }
  )
}
