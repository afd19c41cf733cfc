/**
 * Third-party clients over TLS: Python's grpcio and buf curl, with and without client certificates.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, FileSystem, Layer, Queue, Schema, Stream } from "effect"

import * as CertificateFolder from "../integration/CertificateFolder.ts"
import { type Environment, Installation } from "../integration/Installation.ts"
import * as TcpPort from "../integration/TcpPort.ts"
import * as Echo from "../layers/grpc/Echo.ts"
import * as Certificates from "../layers/tls/Tls.ts"
import { decodePrinted, ForeignTools, type TlsSettings, type TlsStep } from "./ForeignTools.ts"

const recommend = "/Recommendations/Recommend"
/** Three mysteries: field 3 of the first API is max_results. */
const message = "1803"

type Mode = "TLS" | "mutual TLS"

/** The settings of a server and of a client that it accepts. */
const prepare = Effect.fnUntraced(function* (mode: Mode, name: string) {
  const { folder } = yield* Installation
  const { client, environment, server } = yield* CertificateFolder.makeBoth(name)
  const { RECOMMENDATIONS_TLS_CERT_FILE, RECOMMENDATIONS_TLS_KEY_FILE } = environment.recommendations
  const certFiles: Environment = { RECOMMENDATIONS_TLS_CERT_FILE, RECOMMENDATIONS_TLS_KEY_FILE }
  const ca = `${folder}/${client.files.caFile}`
  const identity = { cert: `${folder}/${client.files.certFile}`, key: `${folder}/${client.files.keyFile}` }
  return {
    server,
    ca,
    identity,
    environment: mode === "TLS" ? certFiles : environment.recommendations,
    settings: (port: number): TlsSettings => ({
      target: `localhost:${port}`,
      name: CertificateFolder.serverName,
      ca,
      ...(mode === "TLS" ? {} : identity)
    })
  }
})

const Response = Schema.Struct({ code: Schema.Literal("OK"), response: Schema.String })
const decodeResponse = decodePrinted(Response)
const decodeCode = decodePrinted(Schema.Struct({ code: Schema.String }))

/** Asserts that the response of a call has books. */
const assertBooks = (outcome: unknown) =>
  Effect.map(decodeResponse(outcome), ({ response }) => assert.match(response, /^0a..08/))

const codes = (outcomes: ReadonlyArray<unknown>) =>
  Effect.map(Effect.forEach(outcomes, decodeCode), (all) => all.map(({ code }) => code))

layer(Layer.merge(Installation.layer, ForeignTools.layer))("over TLS", (it) => {
  it.effect.each(["TLS", "mutual TLS"] as const)(
    "Python's grpcio makes calls, exceeds a deadline and cancels: %s",
    (mode) =>
      Effect.gen(function* () {
        const { pythonTls } = yield* ForeignTools
        const { environment, settings } = yield* prepare(mode, `python-${mode.length}`)
        const { pid, port } = yield* (yield* Installation).start("recommendations", environment)
        const outcomes = yield* pythonTls({ ...settings(port), pid }, [
          { call: recommend, message },
          { signal: "SIGSTOP" },
          { call: recommend, message, timeout: 0.2 },
          { cancel: recommend, message },
          { signal: "SIGCONT" },
          { call: recommend, message },
          { call: "/Recommendations/Forget" }
        ])
        yield* assertBooks(outcomes[0])
        yield* assertBooks(outcomes[3])
        assert.deepStrictEqual(yield* codes(outcomes), ["OK", "DEADLINE_EXCEEDED", "CANCELLED", "OK", "UNIMPLEMENTED"])
      })
  )

  it.effect.each(["TLS", "mutual TLS"] as const)("Python's grpcio waits for a server that starts later: %s", (mode) =>
    Effect.gen(function* () {
      const { pythonTls } = yield* ForeignTools
      const { environment, settings } = yield* prepare(mode, `waiting-${mode.length}`)
      const port = yield* TcpPort.free
      const isWaiting = yield* Deferred.make<void>()
      const calls = yield* Effect.forkChild(
        pythonTls(
          settings(port),
          [
            { call: recommend, message },
            { say: "waiting" },
            { call: recommend, message, timeout: 40, wait_for_ready: true }
          ],
          () => Deferred.succeed(isWaiting, undefined)
        )
      )
      yield* Effect.raceFirst(Deferred.await(isWaiting), Fiber.join(calls))
      yield* (yield* Installation).start("recommendations", {
        ...environment,
        RECOMMENDATIONS_GRPC_PORT: String(port)
      })
      const outcomes = yield* Fiber.join(calls)
      assert.deepStrictEqual(yield* codes(outcomes), ["UNAVAILABLE", "OK"])
      yield* assertBooks(outcomes[1])
    })
  )

  it.effect("Python's grpcio is refused without a client certificate, or if the certificate has another name", () =>
    Effect.gen(function* () {
      const { pythonTls } = yield* ForeignTools
      const { ca, environment, settings } = yield* prepare("mutual TLS", "refused")
      const { port, written } = yield* (yield* Installation).start("recommendations", environment)
      const { name, target } = settings(port)
      const call = [{ call: recommend, message }]
      assert.deepStrictEqual(yield* codes(yield* pythonTls({ target, name, ca }, call)), ["UNAVAILABLE"])
      yield* written("no client certificate")

      assert.deepStrictEqual(yield* codes(yield* pythonTls({ ...settings(port), name: "other.test" }, call)), [
        "UNAVAILABLE"
      ])
      // a certificate with the right name from another authority
      const { folder } = yield* Installation
      const listed = yield* CertificateFolder.makeBoth("stranger")
      const stranger = {
        cert: `${folder}/${listed.client.files.certFile}`,
        key: `${folder}/${listed.client.files.keyFile}`
      }
      assert.deepStrictEqual(yield* codes(yield* pythonTls({ ...settings(port), ...stranger }, call)), ["UNAVAILABLE"])
      yield* written("client certificate DNS:marketplace rejected")
    })
  )

  it.effect("Python's grpcio sends unusual messages, metadata and deadlines: mutual TLS", () =>
    Effect.gen(function* () {
      const { pythonTls } = yield* ForeignTools
      const { environment, settings } = yield* prepare("mutual TLS", "odd")
      const { port } = yield* (yield* Installation).start("recommendations", environment)
      const call = { call: recommend, message }
      const many = (count: number) => Array.from({ length: count }, (_, index) => [`x-${index}`, "1"] as const)
      // the first call can precede the server's SETTINGS frame, which limits the size of headers
      const odd: ReadonlyArray<readonly [TlsStep, string]> = [
        [call, "OK"],
        [{ ...call, gzip: true }, "OK"],
        // fields in another order, a repeated field (the last value counts), and an unknown field
        [{ ...call, message: "1801180308071001780a" }, "OK"],
        [{ ...call, message: "18ffffffffffffffffff01" }, "INVALID_ARGUMENT"],
        [{ ...call, message: "1803107f" }, "NOT_FOUND"],
        // a field of another wire type, an unterminated group, an unterminated varint
        [{ ...call, message: "1a03616263" }, "INTERNAL"],
        [{ ...call, message: "0b" }, "INTERNAL"],
        [{ ...call, message: "18ffffffffffffffffffffff" }, "INTERNAL"],
        [{ ...call, metadata: many(100) }, "OK"],
        [{ ...call, metadata: many(140) }, "RESOURCE_EXHAUSTED"],
        [{ ...call, metadata: [["x-large", "x".repeat(12_000)]] }, "OK"],
        [{ ...call, metadata: [["x-large", "x".repeat(17_000)]] }, "RESOURCE_EXHAUSTED"],
        [
          {
            ...call,
            metadata: [
              ["x-bin", ""],
              ["x-bin", "00"],
              ["x-bin", "00ff"],
              ["x-bin", "00ff2c"]
            ]
          },
          "OK"
        ],
        [
          {
            ...call,
            metadata: [
              ["x-text", ""],
              ["x-text", "a, b"],
              ["grpc-unknown", "1"],
              ["user-agent", "x"]
            ]
          },
          "OK"
        ],
        // with a timeout of 0, the response can arrive before the client checks the time
        [{ ...call, timeout: -1 }, "DEADLINE_EXCEEDED"],
        [{ ...call, timeout: 24 * 24 * 3600 }, "OK"],
        [call, "OK"]
      ]
      const outcomes = yield* pythonTls(
        settings(port),
        odd.map(([step]) => step)
      )
      assert.deepStrictEqual(
        yield* codes(outcomes),
        odd.map(([, code]) => code),
        JSON.stringify(outcomes)
      )
    })
  )

  it.effect.each(["TLS", "mutual TLS"] as const)("buf curl makes calls: %s", (mode) =>
    Effect.gen(function* () {
      const { buf } = yield* ForeignTools
      const { ca, environment, identity } = yield* prepare(mode, `buf-${mode.length}`)
      const { port } = yield* (yield* Installation).start("recommendations", environment)
      const common = ["--protocol", "grpc", "--schema", "proto", "-d", '{"maxResults": 3}']
      common.push("--cacert", ca, "--servername", CertificateFolder.serverName)
      const curl = (...options: ReadonlyArray<string>) =>
        buf("curl", ...common, ...options, `https://localhost:${port}${recommend}`)
      const own = ["--cert", identity.cert, "--key", identity.key]
      const { exitCode, stderr, stdout } = yield* curl(...(mode === "TLS" ? [] : own))
      assert.strictEqual(exitCode, 0, stderr)
      const { recommendations } = yield* decodeBooks(stdout)
      assert.lengthOf(recommendations, 3)
      if (mode === "mutual TLS") assert.notStrictEqual((yield* curl()).exitCode, 0)
    })
  )
})

const decodeBooks = decodePrinted(
  Schema.fromJsonString(Schema.Struct({ recommendations: Schema.Array(Schema.Struct({ id: Schema.Int })) }))
)

layer(Layer.merge(NodeServices.layer, ForeignTools.layer), { excludeTestServices: true })("over mutual TLS", (it) => {
  it.effect("a handler is interrupted when Python's grpcio exceeds its deadline, and when it cancels", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "onlinebooks-echo-" })
      const write = (name: string, text: string) =>
        Effect.as(fs.writeFileString(`${folder}/${name}`, text), `${folder}/${name}`)
      const authority = yield* Certificates.makeAuthority()
      const identity = yield* Certificates.clientCertificate(authority)
      const { watched } = yield* Certificates.watch(yield* Certificates.serverCertificate(authority), authority.cert)

      const interrupted = yield* Queue.unbounded<string>()
      const hang = ({ text }: { readonly text: string }) =>
        Effect.onInterrupt(Effect.never, () => Queue.offer(interrupted, text))
      const handlers = {
        EchoOnce: hang,
        Expand: (request: { readonly text: string }) =>
          Stream.concat(Stream.succeed({ text: "begun", items: [] }), Stream.fromEffect(hang(request)))
      }
      yield* Effect.gen(function* () {
        const { pythonTls } = yield* ForeignTools
        const service = Echo.EchoService.name
        const outcomes = yield* pythonTls(
          {
            target: yield* Echo.target,
            name: "localhost",
            ca: yield* write("ca.pem", authority.cert),
            cert: yield* write("cert.pem", identity.cert),
            key: yield* write("key.pem", identity.key)
          },
          [
            // field 1 is the text
            { call: `/${service}/EchoOnce`, message: "0a0161", timeout: 0.5 },
            { cancel_stream: `/${service}/Expand`, message: "0a0162" }
          ]
        )
        assert.deepStrictEqual(yield* codes(outcomes), ["DEADLINE_EXCEEDED", "CANCELLED"])
        assert.deepStrictEqual([yield* Queue.take(interrupted), yield* Queue.take(interrupted)], ["a", "b"])
      }).pipe(Effect.provide(Echo.serve(handlers, { tls: { certificates: watched } })))
    })
  )
})
